package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"connectrpc.com/connect"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
)

// clientFlags say which signer a client command calls, and as whom.
type clientFlags struct {
	Server string `help:"Address of the signer." default:"https://127.0.0.1:7443"`
	TLS    string `help:"Folder with ca.crt and the client's NAME.crt and NAME.key." default:".pursekeeper/tls" name:"tls" placeholder:"DIR"`
	As     string `help:"NAME of the client certificate in the folder." default:"${as}"`
}

// http returns a client that speaks HTTP/2 over TLS 1.3 with the flags' certificate.
func (f clientFlags) http() (*http.Client, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(f.TLS, f.As+".crt"), filepath.Join(f.TLS, f.As+".key"))
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(f.TLS, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("server authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("server authority: %s holds no certificate", filepath.Join(f.TLS, "ca.crt"))
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, RootCAs: pool},
		ForceAttemptHTTP2: true,
	}}, nil
}

// signer returns a gRPC client of the SignerService.
func (f clientFlags) signer() (pursekeeperv1connect.SignerServiceClient, error) {
	client, err := f.http()
	if err != nil {
		return nil, err
	}
	return pursekeeperv1connect.NewSignerServiceClient(client, f.Server, connect.WithGRPC()), nil
}

// reader returns a gRPC client of the ReaderService.
func (f clientFlags) reader() (pursekeeperv1connect.ReaderServiceClient, error) {
	client, err := f.http()
	if err != nil {
		return nil, err
	}
	return pursekeeperv1connect.NewReaderServiceClient(client, f.Server, connect.WithGRPC()), nil
}
