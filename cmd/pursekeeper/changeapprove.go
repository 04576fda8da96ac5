package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/custody"
)

// changeApproveCmd shows a change, asks, signs, and sends the signature. The private key stays where it is: in the agent, in a security key, or
// in the file that it is read from.
type changeApproveCmd struct {
	officerFlags
	ID        string `arg:"" help:"The change's id."`
	Key       string `help:"File of your SSH private key. Left out: your key in the ssh-agent of SSH_AUTH_SOCK." type:"existingfile" xor:"how"`
	Signature string `help:"File of a signature made elsewhere, by ssh-keygen -Y sign -n pursekeeper-change@v1." type:"existingfile" xor:"how"`
	Yes       bool   `help:"You have read it: do not ask."`
}

// Run approves.
func (c *changeApproveCmd) Run(ctx context.Context) error {
	m, change, err := c.read(ctx, c.ID)
	if err != nil {
		return err
	}
	fmt.Print(change.Words())
	if err := c.showDifferences(ctx, change); err != nil {
		return err
	}
	fmt.Printf("  %-12s %s\n", "SHA-256", digestOf(m.Bytes))
	if err := c.agreed(); err != nil {
		return err
	}
	signature, err := c.signature(ctx, []byte(m.Bytes))
	if err != nil {
		return err
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	return ended(keys.ApproveChange(ctx, &v1.ApproveChangeRequest{Id: c.ID, Signature: string(signature)}))
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// agreed asks for a typed yes. What is not a terminal cannot have read the words.
func (c *changeApproveCmd) agreed() error {
	if c.Yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("there is no terminal to ask; read the change, and say --yes")
	}
	fmt.Print("Approve exactly this? Type yes: ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("not approved")
	}
	return nil
}

func (c *changeApproveCmd) signature(ctx context.Context, body []byte) ([]byte, error) {
	if c.Signature != "" {
		return os.ReadFile(c.Signature)
	}
	var signer ssh.Signer
	var err error
	if c.Key != "" {
		signer, err = readSSHKey(ctx, c.Key)
	} else {
		var close func() error
		signer, close, err = c.fromAgent(ctx)
		if err == nil {
			defer func() { _ = close() }()
		}
	}
	if err != nil {
		return nil, err
	}
	signature, err := sshsig.Sign(strings.NewReader(string(body)), signer, sshsig.HashSHA512, custody.Namespace)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sshsig.Armor(signature), nil
}

// readSSHKey reads a key file, and asks for its passphrase where it has one. The key's bytes are in ordinary memory until the process
// ends, which is when it has signed once.
func readSSHKey(ctx context.Context, path string) (ssh.Signer, error) {
	if err := harden(); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(file)
	signer, err := ssh.ParsePrivateKey(file)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		passphrase, asked := askPassphrase(ctx)
		if asked != nil {
			return nil, asked
		}
		defer clear(passphrase)
		signer, err = ssh.ParsePrivateKeyWithPassphrase(file, passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return signer, nil
}

// fromAgent finds the registered key of the officer whom the certificate names in the agent.
func (c *changeApproveCmd) fromAgent(ctx context.Context) (ssh.Signer, func() error, error) {
	path := os.Getenv("SSH_AUTH_SOCK")
	if path == "" {
		return nil, nil, errors.New("SSH_AUTH_SOCK is not set: start an ssh-agent, or give --key or --signature")
	}
	officers, err := c.officers(ctx)
	if err != nil {
		return nil, nil, err
	}
	registered := map[string]bool{}
	for _, o := range officers.Officers {
		if o.Name == c.As {
			registered[o.Key] = true
		}
	}
	if len(registered) == 0 {
		return nil, nil, fmt.Errorf("%s is no officer: --as takes the officer's name, which its certificate has", c.As)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, nil, fmt.Errorf("ssh-agent: %w", err)
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ssh-agent: %w", err), conn.Close())
	}
	for _, s := range signers {
		if registered[custody.OfficerKeyText(s.PublicKey())] {
			return s, conn.Close, nil
		}
	}
	return nil, nil, errors.Join(fmt.Errorf("the ssh-agent has not the key of officer %s: ssh-add it", c.As), conn.Close())
}
