// Command vault is a HashiCorp Vault server for tests: Vault's own core and HTTP interface, with the engines and the login method
// that the tests use, over TLS. It has no development mode: tests initialise, unseal and configure it over its API, as
// an operator does. It ends when its standard input does, so that it never outlives the test that started it.
package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	certificate := flag.String("certificate", "", "file of the server's certificate, PEM")
	key := flag.String("key", "", "file of its key, PEM")
	storage := flag.String("storage", "", "folder that keeps all; without it all is in memory")
	listen := flag.String("listen", "127.0.0.1:0", "address of the first node; the others take any port")
	nodes := flag.Int("nodes", 1, "number of nodes over one memory: the first unsealed is active, the others stand by")
	plain := flag.Bool("plain", false, "http in place of https")
	flag.Parse()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := serve(*certificate, *key, *storage, *listen, *nodes, *plain); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

// serve starts the nodes and writes one line for each to standard output, its address; it returns when one of them ends.
func serve(certificate, key, storage, listen string, nodes int, plain bool) error {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if !plain {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	backend, err := inmem.NewInmemHA(nil, log)
	if storage != "" {
		if nodes != 1 {
			return errors.New("a folder is one node's")
		}
		backend, err = file.NewFileBackend(map[string]string{"path": storage}, log)
	}
	if err != nil {
		return err
	}
	ended := make(chan error)
	for range nodes {
		socket, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		listen = "127.0.0.1:0"
		address := "http://" + socket.Addr().String()
		if !plain {
			address = "https://" + socket.Addr().String()
			socket = tls.NewListener(socket, config)
		}
		handler, err := node(backend, address, log)
		if err != nil {
			return err
		}
		go func() { ended <- (&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}).Serve(socket) }()
		fmt.Println(address)
	}
	return <-ended
}

// node is a sealed Vault over backend. It forwards nothing: standing by, it redirects to the active node's address.
func node(backend physical.Backend, address string, log hclog.Logger) (http.Handler, error) {
	ha, _ := backend.(physical.HABackend)
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: backend, HAPhysical: ha, RedirectAddr: address, DisableMlock: true, Logger: log, BuiltinRegistry: engines{},
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
	})
	if err != nil {
		return nil, err
	}
	return vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core}), nil
}

// engines tells the core which engines are compiled in.
type engines struct{}

var compiled = map[string]consts.PluginType{"kv": consts.PluginTypeSecrets, "transit": consts.PluginTypeSecrets, "approle": consts.PluginTypeCredential}

func (engines) Contains(name string, kind consts.PluginType) bool {
	found, known := compiled[name]
	return known && (kind == found || kind == consts.PluginTypeUnknown)
}

func (e engines) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return func() (any, error) { return nil, errors.New("no plugin runs outside this process") }, e.Contains(name, kind)
}

func (e engines) Keys(kind consts.PluginType) (names []string) {
	for name := range compiled {
		if e.Contains(name, kind) {
			names = append(names, name)
		}
	}
	return names
}

func (e engines) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, e.Contains(name, kind)
}
