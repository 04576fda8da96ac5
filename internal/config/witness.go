package config

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Witness is one who signs the log's checkpoints too.
type Witness struct {
	Name string
	URL  string
	Key  *tiles.Witness
	CAs  *x509.CertPool // nil: the system's
}

var witnessName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// witnesses checks that names are unique, and keys: one key under two names is one witness.
func (c *checker) witnesses(files []WitnessFile) []Witness {
	var all []Witness
	names := map[string]bool{}
	for i, file := range files {
		field := fmt.Sprintf("audit.witnesses[%d]", i)
		c.unique(names, field+".name", file.Name)
		if file.Name != "" && !witnessName.MatchString(file.Name) {
			c.refuse(field+".name", "%q: expected 1 to 63 small letters, digits and -", file.Name)
		}
		c.witnessURL(field+".url", file.URL)
		w := Witness{Name: file.Name, URL: file.URL, CAs: c.witnessCA(field+".ca", file.CA)}
		var err error
		if w.Key, err = tiles.ParseWitness(file.Key); err != nil {
			c.err(field+".key", err)
			continue
		}
		for j, other := range all {
			if w.Key.Same(other.Key) {
				c.refuse(field+".key", "is the key of audit.witnesses[%d] too: one witness", j)
			}
		}
		all = append(all, w)
	}
	return all
}

// witnessURL accepts what a checkpoint may be sent to: nobody between may answer in the witness's name.
func (c *checker) witnessURL(field, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		c.refuse(field, "%q: expected the submission prefix, such as https://witness.example/", text)
		return
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		c.refuse(field, "%q: expected https, or http to a loopback address", text)
	}
}

func (c *checker) witnessCA(field, file string) *x509.CertPool {
	if file == "" {
		return nil
	}
	path, found := c.existing(field, file)
	if !found {
		return nil
	}
	pool := x509.NewCertPool()
	if pem, err := os.ReadFile(path); err != nil {
		c.err(field, err)
	} else if !pool.AppendCertsFromPEM(pem) {
		c.refuse(field, "%s holds no certificate in PEM", path)
	}
	return pool
}
