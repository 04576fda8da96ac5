package store

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// parametersOfURL are what a URL may say after its question mark, by the names that PostgreSQL's own clients know.
var parametersOfURL = []string{"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey"}

// CheckPostgresURL refuses the URL of a database that a signer must not use: one with a password in it, for whoever reads the configuration
// would have it; one that leaves to the environment which server, database or user is meant; and one that reaches over a network a server
// whose certificate and name are not verified.
//
//	postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE
//	postgresql://USER@/DATABASE?host=/run/postgresql
func CheckPostgresURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("it is no URL; expected postgresql://USER@HOST:PORT/DATABASE") // the library's error would repeat it
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("what follows its question mark cannot be read")
	}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "postgresql" && u.Scheme != "postgres":
		return fmt.Errorf("its scheme is %q, expected postgresql", u.Scheme)
	case password || query.Has("password"):
		return errors.New("it holds a password: say where the password is instead")
	case u.User.Username() == "":
		return errors.New("it names no user; expected postgresql://USER@HOST:PORT/DATABASE")
	case strings.Trim(u.Path, "/") == "":
		return errors.New("it names no database; expected postgresql://USER@HOST:PORT/DATABASE")
	}
	for name, values := range query {
		if !slices.Contains(parametersOfURL, name) {
			return fmt.Errorf("it has the parameter %q, expected one of %s", name, strings.Join(parametersOfURL, ", "))
		}
		if len(values) != 1 {
			return fmt.Errorf("it has the parameter %q twice", name)
		}
	}
	hosts := u.Host
	if query.Has("host") {
		if hosts != "" {
			return errors.New("it names a host twice: before the database and as the parameter host")
		}
		hosts = query.Get("host")
	}
	return checkHosts(strings.Split(hosts, ","), query.Get("sslmode"))
}

// withPort is a URL that was accepted, with PostgreSQL's own port where it names none.
func withPort(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	query := u.Query()
	for _, host := range strings.Split(u.Host, ",") {
		if _, _, err := net.SplitHostPort(host); err == nil || query.Has("port") {
			return text
		}
	}
	query.Set("port", "5432")
	u.RawQuery = query.Encode()
	return u.String()
}

func checkHosts(hosts []string, mode string) error {
	for _, host := range hosts {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.Trim(host, "[]")
		ip := net.ParseIP(host)
		switch near := strings.HasPrefix(host, "/") || host == "localhost" || ip != nil && ip.IsLoopback(); {
		case host == "":
			return errors.New("it names no host; expected postgresql://USER@HOST:PORT/DATABASE, or ?host=/FOLDER for a socket on this machine")
		case !near && mode != "verify-full":
			return fmt.Errorf("%s is on another machine, and sslmode is %q, expected verify-full", host, mode)
		}
	}
	return nil
}
