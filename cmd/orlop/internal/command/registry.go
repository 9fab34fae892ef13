package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/cli/cli/config/types"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/orlop/orlop/cmd/internal/session"
)

// maxPassword bounds what is read from standard input, in bytes.
const maxPassword = 64 << 10

func loginCommand(s *session.Session) *cobra.Command {
	var user, password string
	var fromStdin bool
	c := &cobra.Command{Use: "login [OPTIONS] [SERVER]", Short: "Log in to a registry", Args: usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			host := ""
			if len(args) > 0 {
				host = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://"), "/")
			}
			switch {
			case password != "" && fromStdin:
				return errors.New("--password and --password-stdin are mutually exclusive")
			case fromStdin && user == "":
				return errors.New("must provide --username with --password-stdin")
			case password != "":
				fmt.Fprintln(s.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
			}
			if err := ask(s, &user, &password, fromStdin); err != nil {
				return err
			}
			e, err := s.Engine()
			if err != nil {
				return err
			}
			key := session.RegistryKey(host)
			got, err := e.RegistryLogin(c.Context(), client.RegistryLoginOptions{Username: user, Password: password, ServerAddress: key})
			if err != nil {
				return err
			}
			keep := types.AuthConfig{Username: user, Password: password, ServerAddress: key}
			if got.Auth.IdentityToken != "" {
				keep.Password, keep.IdentityToken = "", got.Auth.IdentityToken
			}
			if err := s.Config().GetCredentialsStore(key).Store(keep); err != nil {
				return fmt.Errorf("credentials could not be saved: %w", err)
			}
			s.Printf("%s\n", got.Auth.Status)
			return nil
		}}
	f := c.Flags()
	f.StringVarP(&user, "username", "u", "", "User name")
	f.StringVarP(&password, "password", "p", "", "Password or token")
	f.BoolVar(&fromStdin, "password-stdin", false, "Read the password from standard input")
	return c
}

// ask completes the name and password.
func ask(s *session.Session, user, password *string, fromStdin bool) error {
	if fromStdin {
		data, err := io.ReadAll(io.LimitReader(s.In, maxPassword))
		*password = strings.TrimRight(string(data), "\r\n")
		return err
	}
	if *user != "" && *password != "" {
		return nil
	}
	fd, tty := session.Terminal(s.In)
	if !tty {
		return errors.New("cannot perform an interactive login from a non TTY device: use --username and --password-stdin")
	}
	if *user == "" {
		fmt.Fprint(s.Out, "Username: ")
		line, err := bufio.NewReader(io.LimitReader(s.In, 1024)).ReadString('\n')
		if err != nil {
			return err
		}
		*user = strings.TrimSpace(line)
	}
	if *password == "" {
		fmt.Fprint(s.Out, "Password: ")
		data, err := term.ReadPassword(fd)
		fmt.Fprintln(s.Out)
		if err != nil {
			return err
		}
		*password = string(data)
	}
	if *user == "" || *password == "" {
		return errors.New("a user name and a password are required")
	}
	return nil
}

func logoutCommand(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "logout [SERVER]", Short: "Forget the credentials of a registry", Args: usage(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			host := ""
			if len(args) > 0 {
				host = args[0]
			}
			key := session.RegistryKey(host)
			s.Printf("Removing login credentials for %s\n", key)
			return s.Config().GetCredentialsStore(key).Erase(key)
		}}
}
