package session

import "github.com/spf13/pflag"

// Add adds the flags.
func (g *Global) Add(f *pflag.FlagSet) {
	f.StringVarP(&g.Host, "host", "H", "", "Address of the engine (default "+DefaultHost+")")
	f.StringVarP(&g.Context, "context", "c", "", "Name of the context to use")
	f.StringVar(&g.ConfigDir, "config", "", "Folder of your settings")
	f.BoolVarP(&g.Debug, "debug", "D", false, "Tell more")
	f.BoolVar(&g.TLS, "tls", false, "Use TLS")
	f.BoolVar(&g.TLSVerify, "tlsverify", false, "Use TLS and check the engine's certificate")
	f.StringVar(&g.TLSCA, "tlscacert", "", "Certificates to trust")
	f.StringVar(&g.TLSCert, "tlscert", "", "Your certificate")
	f.StringVar(&g.TLSKey, "tlskey", "", "Your key")
}
