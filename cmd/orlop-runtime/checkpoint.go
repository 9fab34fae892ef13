package main

import (
	"os"
	"path/filepath"

	"github.com/orlop/orlop/runtime"
)

// imageFlags are those of checkpoint and restore. A restore goes by what the checkpoint
// was written with, and only accepts the rest.
var imageFlags = []option{
	{name: "image-path", value: "DIR", help: "folder of the checkpoint (default checkpoint)"},
	{name: "work-path", value: "DIR", help: "folder for CRIU's log (default that of the checkpoint)"},
	{name: "tcp-established", help: "keep TCP connections"},
	{name: "tcp-close", help: "end TCP connections"},
	{name: "ext-unix-sk", help: "allow unix sockets that lead outside"},
	{name: "shell-job", help: "allow a session that was begun outside"},
	{name: "file-locks", help: "keep locks of files"},
	{name: "manage-cgroups-mode", value: "MODE", help: "accepted for compatibility; soft is what is done"},
	{name: "empty-ns", value: "KIND", help: "accepted for compatibility; networks are never part of it"},
	{name: "link-remap", help: "accepted for compatibility; ignored"},
}

func imageOptions(more ...option) []option {
	return append(imageFlags[:len(imageFlags):len(imageFlags)], more...)
}

// imagePath is the folder of the checkpoint, from where the command was called.
func (k *call) imagePath() (string, error) {
	dir := k.flags.get("image-path")
	if dir == "" {
		dir = "checkpoint"
	}
	return filepath.Abs(dir)
}

func (k *call) connections() runtime.Connections {
	return runtime.Connections{TCPEstablished: k.flags.is("tcp-established"), TCPClose: k.flags.is("tcp-close"),
		ExternalUnix: k.flags.is("ext-unix-sk"), ShellJob: k.flags.is("shell-job"), FileLocks: k.flags.is("file-locks")}
}

var checkpointCommand = command{name: "checkpoint", args: "ID", help: "write a running container's processes into a folder, by CRIU", least: 1, most: 1,
	flags: imageOptions(option{name: "leave-running", help: "let the container go on"}),
	run: func(k *call) (int, error) {
		dir, err := k.imagePath()
		if err != nil {
			return 1, err
		}
		c, err := k.container()
		if err != nil {
			return 1, err
		}
		return 0, c.Checkpoint(runtime.CheckpointConfig{Dir: dir, WorkDir: k.flags.get("work-path"),
			LeaveRunning: k.flags.is("leave-running"), Criu: k.global.get("criu"), Connections: k.connections()})
	}}

var restoreCommand = command{name: "restore", args: "ID", help: "make a container of a checkpoint and let it go on", least: 1, most: 1,
	flags: imageOptions(
		option{name: "bundle", short: "b", value: "DIR", help: "directory of config.json (default .)"},
		option{name: "pid-file", value: "FILE", help: "file that gets the process id"},
		option{name: "detach", short: "d", help: "don't wait for the container"},
		option{name: "keep", help: "don't delete the container when it ends"},
		option{name: "no-pivot", help: "accepted for compatibility; ignored"},
		option{name: "no-subreaper", help: "accepted for compatibility; ignored"}),
	run: restore}

func restore(k *call) (int, error) {
	dir, err := k.imagePath()
	if err != nil {
		return 1, err
	}
	wait := !k.flags.is("detach")
	if err := k.open(!wait); err != nil {
		return 1, err
	}
	if err := k.enterBundle(); err != nil {
		return 1, err
	}
	c, err := k.runtime.Restore(k.ctx, runtime.RestoreConfig{
		CreateConfig: runtime.CreateConfig{ID: k.args[0], Bundle: ".", Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, PidFile: k.flags.get("pid-file")},
		Dir:          dir, Criu: k.global.get("criu")})
	if err != nil {
		return 1, err
	}
	return runToEnd(k, c, wait)
}
