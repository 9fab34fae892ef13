package plugins_test

import (
	"context"
	"fmt"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/config"
)

// A greeter greets somebody.
type greeter interface{ greet(name string) string }

type polite struct{ word string }

func (p polite) greet(name string) string { return p.word + ", " + name }

type politeConfig struct {
	// Word that is said first.
	Word string `toml:"word"`
}

// The roles, which a daemon lists in one place.
var (
	greeterKind = plugins.NewKind[greeter]("io.example.greeter.v1", plugins.Describe("greets people"))
	doorKind    = plugins.NewKind[string]("io.example.door.v1")
)

func Example() {
	var r plugins.Registry
	plugins.Provide(&r, doorKind, "front", func(s *plugins.Scope) plugins.Build[string] {
		g := plugins.One(s, greeterKind)
		return func(context.Context) (string, error) { return g().greet("Ada"), nil }
	})
	plugins.Provide(&r, greeterKind, "polite", func(s *plugins.Scope) plugins.Build[greeter] {
		c := plugins.Config(s, politeConfig{Word: "Hello"})
		return func(context.Context) (greeter, error) { return polite{c.Word}, nil }
	})

	// A mistake is found before anything runs.
	doc, _ := config.Parse("greet.toml", []byte("[plugins.'io.example.greeter.v1.polite']\nwrod = 'Hi'"))
	_, err := r.Plan(doc, config.DefaultSettings())
	fmt.Println(err)

	doc, _ = config.Parse("greet.toml", []byte("[plugins.'io.example.greeter.v1.polite']\nword = 'Hi'"))
	plan, err := r.Plan(doc, config.DefaultSettings())
	if err != nil {
		panic(err)
	}
	fmt.Print(plan)
	sys, err := plan.Start(context.Background())
	if err != nil {
		panic(err)
	}
	defer sys.Close(context.Background())
	said, _ := plugins.Get(sys, doorKind)
	fmt.Println(said)
	g := sys.Graph()
	fmt.Print(g.Tree())

	// Output:
	// greet.toml:2:1: unknown key wrod in io.example.greeter.v1.polite (did you mean "word"?)
	// 1 io.example.greeter.v1.polite: plugins_test.greeter
	// 2 io.example.door.v1.front: string <- io.example.greeter.v1
	// Hi, Ada
	// io.example.door.v1.front
	// └─ io.example.greeter.v1.polite
}
