package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/orlop/orlop/runtime"
	"golang.org/x/sys/unix"
)

var createFlags = []option{
	{name: "bundle", short: "b", value: "DIR", help: "directory of config.json (default .)"},
	{name: "console-socket", value: "PATH", help: "socket that takes the terminal"},
	{name: "pid-file", value: "FILE", help: "file that gets the process id"},
	{name: "no-pivot", help: "change the root by chroot"},
	{name: "no-new-keyring", help: "keep the session keyring"},
	{name: "preserve-fds", value: "N", help: "hand on N descriptors after stderr"},
	{name: "pidfd-socket", value: "PATH", help: "socket that takes a pidfd of the process"},
}

var createCommand = command{name: "create", args: "ID", help: "make a container, ready to start", least: 1, most: 1,
	flags: createFlags, run: func(k *call) (int, error) { return create(k, true) }}

var startCommand = command{name: "start", args: "ID", help: "start a created container", least: 1, most: 1,
	run: func(k *call) (int, error) {
		c, err := k.container()
		if err != nil {
			return 1, err
		}
		return 0, c.Start(k.ctx)
	}}

var runCommand = command{name: "run", args: "ID", help: "create and start a container", least: 1, most: 1,
	flags: append(createFlags[:len(createFlags):len(createFlags)],
		option{name: "detach", short: "d", help: "don't wait for the container"},
		option{name: "keep", help: "don't delete the container when it ends"},
		option{name: "no-subreaper", help: "accepted for compatibility; ignored"}),
	run: func(k *call) (int, error) { return create(k, false) }}

// create makes a container; unless only is set it also starts it and, without
// --detach, waits for it.
func create(k *call, only bool) (int, error) {
	if err := k.open(only); err != nil {
		return 1, err
	}
	if err := k.enterBundle(); err != nil {
		return 1, err
	}
	spec, err := runtime.ReadSpec(".")
	if err != nil {
		return 1, err
	}
	extra, env, err := k.extraFiles()
	if err != nil {
		return 1, err
	}
	wait := !only && !k.flags.is("detach")
	terminal := spec.Process != nil && spec.Process.Terminal
	if err := checkConsole(terminal, wait, k.flags.get("console-socket")); err != nil {
		return 1, err
	}
	if spec.Process != nil {
		spec.Process.Env = append(spec.Process.Env, env...)
	}
	c, err := k.runtime.Create(k.ctx, runtime.CreateConfig{ID: k.args[0], Bundle: ".", Spec: spec,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: extra,
		PidFile: k.flags.get("pid-file"), NoPivot: k.flags.is("no-pivot")})
	if err != nil {
		return 1, err
	}
	if err := k.afterCreate(c); err != nil {
		c.Delete(k.ctx, true)
		return 1, err
	}
	if only {
		return 0, nil
	}
	return runToEnd(k, c, wait)
}

// enterBundle makes the bundle the working directory.
func (k *call) enterBundle() error {
	if bundle := k.flags.get("bundle"); bundle != "" {
		return os.Chdir(bundle)
	}
	return nil
}

// runToEnd starts a container and, with wait, deletes it when it has ended.
func runToEnd(k *call, c *runtime.Container, wait bool) (int, error) {
	code, err := follow(k, c, wait)
	if err != nil || wait && !k.flags.is("keep") {
		if e := c.Delete(k.ctx, true); err == nil {
			err = e
		}
	}
	return code, err
}

// afterCreate hands terminal and pidfd to who asked for them.
func (k *call) afterCreate(c *runtime.Container) error {
	if path := k.flags.get("console-socket"); path != "" {
		if err := sendFile(path, "/dev/ptmx", c.Console()); err != nil {
			return fmt.Errorf("console socket: %w", err)
		}
	}
	if path := k.flags.get("pidfd-socket"); path != "" {
		if err := sendFile(path, "pidfd", c.PidFD()); err != nil {
			return fmt.Errorf("pidfd socket: %w", err)
		}
	}
	return nil
}

func checkConsole(terminal, wait bool, socket string) error {
	switch {
	case terminal && !wait && socket == "":
		return errors.New("a terminal of a detached container needs --console-socket")
	case socket != "" && (!terminal || wait):
		return errors.New("--console-socket needs a terminal and a detached container")
	}
	return nil
}

// follow starts a container and, if asked, stays with it to the end.
func follow(k *call, c *runtime.Container, wait bool) (int, error) {
	if !wait {
		return 0, c.Start(k.ctx)
	}
	resize := func() {
		if c.Console() != nil {
			copySize(c.Console())
		}
	}
	var restore func()
	if c.Console() != nil {
		var err error
		if restore, err = relay(c.Console()); err != nil {
			return 1, err
		}
	}
	stop := forwardSignals(func(s syscall.Signal) error { return c.Kill(k.ctx, s, false) }, resize)
	defer stop()
	if err := c.Start(k.ctx); err != nil {
		if restore != nil {
			restore()
		}
		return 1, err
	}
	st, err := c.Wait(k.ctx)
	if restore != nil {
		restore()
	}
	return st.Code, err
}

// extraFiles are the descriptors to hand on: those of socket activation, and
// those that --preserve-fds counts.
func (k *call) extraFiles() (files []*os.File, env []string, err error) {
	listen, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if listen > 0 {
		env = []string{"LISTEN_FDS=" + strconv.Itoa(listen), "LISTEN_PID=1"}
	}
	n := listen
	if s := k.flags.get("preserve-fds"); s != "" {
		extra, err := strconv.Atoi(s)
		if err != nil || extra < 0 || extra > 1024 {
			return nil, nil, fmt.Errorf("--preserve-fds %s: not a number from 0 to 1024", s)
		}
		n += extra
	}
	for fd := 3; fd < 3+n; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return nil, nil, fmt.Errorf("descriptor %d is not open", fd)
		}
		files = append(files, os.NewFile(uintptr(fd), "extra"))
	}
	return files, env, nil
}

// sendFile sends a descriptor to a listening unix socket.
func sendFile(path, name string, f *os.File) error {
	if f == nil {
		return errors.New("nothing to send")
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _, err = conn.(*net.UnixConn).WriteMsgUnix([]byte(name), unix.UnixRights(int(f.Fd())), nil)
	return err
}

// relay copies between our terminal and the container's until it ends.
func relay(console *os.File) (restore func(), err error) {
	fd := int(os.Stdin.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		raw := *old
		raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		raw.Oflag &^= unix.OPOST
		raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
			return nil, err
		}
		copySize(console)
	} else {
		old = nil
	}
	done := make(chan struct{})
	go io.Copy(console, os.Stdin)
	go func() { io.Copy(os.Stdout, console); close(done) }()
	return func() {
		<-done
		if old != nil {
			unix.IoctlSetTermios(fd, unix.TCSETS, old)
		}
	}, nil
}

func copySize(console *os.File) {
	if ws, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(console.Fd()), unix.TIOCSWINSZ, ws)
	}
}
