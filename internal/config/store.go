package config

import (
	"context"
	"net/url"
	"path/filepath"

	"github.com/pursekeeper/pursekeeper/internal/source"
	"github.com/pursekeeper/pursekeeper/store"
)

// Postgres is where a PostgreSQL is.
type Postgres struct {
	URL      string         // as store.CheckPostgresURL accepts it
	Password *source.Source // nil where the server asks for none
}

// Database is it as the store takes it. The password is read anew for each connection: one that Vault replaces is used from then on.
func (p *Postgres) Database() store.Postgres {
	d := store.Postgres{URL: p.URL}
	if p.Password != nil {
		d.Password = func(ctx context.Context) ([]byte, error) {
			password, err := p.Password.Read(ctx)
			if err != nil {
				return nil, err
			}
			defer password.Wipe()
			return append([]byte(nil), password.Reveal("the database library takes it as text")...), nil
		}
	}
	return d
}

// StoreName names the store in what this program says and records: the database file, or the URL, which holds no secret.
func (c *Config) StoreName() string {
	if c.Postgres != nil {
		return c.Postgres.URL
	}
	return c.SQLite
}

// store accepts one database, in one place.
func (c *checker) store(file StoreFile) (sqlite string, postgres *Postgres) {
	switch {
	case file.SQLite == "" && file.Postgres == nil:
		c.refuse("store", "missing: expected store.sqlite or store.postgres")
	case file.SQLite != "" && file.Postgres != nil:
		c.refuse("store", "holds sqlite and postgres: expected one of them")
	case file.Postgres != nil:
		return "", c.postgres(*file.Postgres)
	default:
		sqlite = c.path(file.SQLite)
		c.inFolder("store.sqlite", sqlite)
	}
	return sqlite, nil
}

func (c *checker) postgres(file PostgresFile) *Postgres {
	p := &Postgres{URL: file.URL}
	if err := store.CheckPostgresURL(file.URL); file.URL == "" {
		c.refuse("store.postgres.url", "missing")
	} else if err != nil {
		c.refuse("store.postgres.url", "%v", err)
	} else if u, err := url.Parse(file.URL); err == nil {
		for _, name := range []string{"sslrootcert", "sslcert", "sslkey"} {
			if path := u.Query().Get(name); path != "" && !filepath.IsAbs(path) {
				c.refuse("store.postgres.url", "%s=%s: expected an absolute path", name, path)
			} else if path != "" {
				c.existing("store.postgres.url", path)
			}
		}
	}
	if file.Password != nil {
		p.Password = take[*source.Source](c, "store.postgres.password")(source.New(*file.Password, c.dir))
	}
	return p
}
