package session

import (
	"errors"

	"github.com/containerd/log"
	"github.com/spf13/pflag"
)

// Add adds the flags.
func (g *Global) Add(f *pflag.FlagSet) {
	f.StringVarP(&g.Host, "host", "H", "", "Address of the engine (default "+DefaultHost+")")
	f.StringVarP(&g.Context, "context", "c", "", "Name of the context to use")
	f.StringVar(&g.ConfigDir, "config", "", "Folder of your settings")
	f.BoolVarP(&g.Debug, "debug", "D", false, "Tell more")
	f.VarP(new(logLevel), "log-level", "l", "How much libraries tell: debug, info, warn, error or fatal")
	f.BoolVar(&g.TLS, "tls", false, "Use TLS")
	f.BoolVar(&g.TLSVerify, "tlsverify", false, "Use TLS and check the engine's certificate")
	f.StringVar(&g.TLSCA, "tlscacert", "", "Certificates to trust")
	f.StringVar(&g.TLSCert, "tlscert", "", "Your certificate")
	f.StringVar(&g.TLSKey, "tlskey", "", "Your key")
}

// logLevel is a flag that sets how much is logged.
type logLevel string

// Set implements [pflag.Value].
func (l *logLevel) Set(v string) error {
	if log.SetLevel(v) != nil {
		return errors.New("it is one of debug, info, warn, error, fatal")
	}
	*l = logLevel(v)
	return nil
}

// String implements [pflag.Value].
func (l *logLevel) String() string { return string(*l) }

// Type implements [pflag.Value].
func (*logLevel) Type() string { return "string" }
