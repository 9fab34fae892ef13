package build

import (
	"os"
	"path/filepath"
	"strings"
)

// door builds a scene, and returns the image as an archive, or what went wrong.
type door struct {
	name  string
	exact bool // times are those of the epoch
	build func(r *rig, s *scene, tag string) (archive string, out string, err error)
}

var doors = []door{
	{"buildx", true, byBuildx}, {"buildctl", true, byBuildctl}, {"classic", false, byClassic}, {"orlop", true, byOrlop},
}

// flags are what docker build, buildx and orlop build have in common.
func (s *scene) flags(tag string) []string {
	out := []string{"--no-cache", "-t", tag}
	for key, flag := range map[string]string{"arg": "--build-arg", "label": "--label", "target": "--target", "platform": "--platform", "host": "--add-host"} {
		for _, v := range s.lines[key] {
			out = append(out, flag, v)
		}
	}
	for _, f := range s.lines["file"] {
		out = append(out, "-f", filepath.Join(s.dir, f))
	}
	return out
}

// source is what is built: the folder, or what the scene says.
func (s *scene) source() string {
	if from := s.lines["from"]; from != nil {
		return from[0]
	}
	return s.dir
}

func byBuildx(r *rig, s *scene, tag string) (string, string, error) {
	return r.byFlags(s, tag, "docker", "buildx", "build")
}

func byOrlop(r *rig, s *scene, tag string) (string, string, error) {
	return r.byFlags(s, tag, filepath.Join(r.bin, "orlop"), "build")
}

// byFlags builds by a client that knows all flags.
func (r *rig) byFlags(s *scene, tag, program string, words ...string) (string, string, error) {
	args := append(words, "--progress", "plain", "--output", "type=image,name="+tag+",rewrite-timestamp=true")
	args = append(args, s.flags(tag)...)
	for _, v := range s.lines["secret"] {
		id, value, _ := strings.Cut(v, "=")
		r.write("secret/"+id, value)
		args = append(args, "--secret", "id="+id+",src="+r.path("secret", id))
	}
	for _, v := range s.lines["context"] {
		name, dir, _ := strings.Cut(v, "=")
		args = append(args, "--build-context", name+"="+filepath.Join(s.dir, dir))
	}
	out, err := r.try(program, append(args, s.source())...)
	if err != nil {
		return "", out, err
	}
	return r.saved(s, tag, out)
}

func byBuildctl(r *rig, s *scene, tag string) (string, string, error) {
	dest := r.path("out-" + s.name + ".tar")
	args := []string{"build", "--progress", "plain", "--no-cache", "--frontend", "dockerfile.v0", "--opt", "build-arg:SOURCE_DATE_EPOCH=" + epoch,
		"--output", "type=oci,dest=" + dest + ",rewrite-timestamp=true,name=" + tag}
	if from := s.lines["from"]; from != nil {
		args = append(args, "--opt", "context="+from[0])
	} else {
		args = append(args, "--local", "context="+s.dir, "--local", "dockerfile="+s.dir)
	}
	for key, opt := range map[string]string{"arg": "build-arg:", "label": "label:"} {
		for _, v := range s.lines[key] {
			args = append(args, "--opt", opt+v)
		}
	}
	for key, opt := range map[string]string{"target": "target=", "platform": "platform=", "file": "filename=", "host": "add-hosts="} {
		for _, v := range s.lines[key] {
			if key == "host" {
				v = strings.Replace(v, ":", "=", 1)
			}
			args = append(args, "--opt", opt+v)
		}
	}
	for _, v := range s.lines["secret"] {
		id, value, _ := strings.Cut(v, "=")
		r.write("secret/"+id, value)
		args = append(args, "--secret", "id="+id+",src="+r.path("secret", id))
	}
	for _, v := range s.lines["context"] {
		name, dir, _ := strings.Cut(v, "=")
		args = append(args, "--local", name+"="+filepath.Join(s.dir, dir), "--opt", "context:"+name+"=local:"+name)
	}
	out, err := r.try(r.buildctl, args...)
	return dest, out, err
}

func byClassic(r *rig, s *scene, tag string) (string, string, error) {
	args := append([]string{"DOCKER_BUILDKIT=0", "docker", "build", "--build-arg", "SOURCE_DATE_EPOCH=" + epoch}, s.flags(tag)...)
	out, err := r.try("env", append(args, s.source())...)
	if err != nil {
		return "", out, err
	}
	return r.saved(s, tag, out)
}

// saved takes the image out of the store.
func (r *rig) saved(s *scene, tag, out string) (string, string, error) {
	dest := r.path("out-" + s.name + ".tar")
	os.Remove(dest)
	more, err := r.try("docker", "save", "-o", dest, tag)
	return dest, out + more, err
}
