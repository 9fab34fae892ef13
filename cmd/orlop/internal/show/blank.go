package show

import (
	"net/netip"
	"reflect"
	"text/template"
	"text/template/parse"
)

// blankName is the function that what a template prints goes through.
const blankName = "_blank"

// printBlanks lets a template print nothing for an address that there isn't: its text is
// otherwise "invalid IP", and people's scripts look for an empty one.
func printBlanks(t *template.Template) *template.Template {
	t.Funcs(template.FuncMap{blankName: blank})
	for _, x := range t.Templates() {
		if x.Tree != nil && x.Root != nil {
			through(x.Tree, x.Root)
		}
	}
	return t
}

// blank returns what is to be printed of a value.
func blank(v reflect.Value) reflect.Value {
	if !v.IsValid() || !v.CanInterface() {
		return v
	}
	switch a := v.Interface().(type) {
	case netip.Addr:
		if !a.IsValid() {
			return reflect.ValueOf("")
		}
	case netip.Prefix:
		if !a.IsValid() {
			return reflect.ValueOf("")
		}
	}
	return v
}

// through puts the function behind all that a list of nodes prints.
func through(t *parse.Tree, list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 {
				continue // it prints nothing
			}
			n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos,
				Args: []parse.Node{parse.NewIdentifier(blankName).SetTree(t).SetPos(n.Pos)}})
		case *parse.IfNode:
			through(t, n.List)
			through(t, n.ElseList)
		case *parse.RangeNode:
			through(t, n.List)
			through(t, n.ElseList)
		case *parse.WithNode:
			through(t, n.List)
			through(t, n.ElseList)
		}
	}
}
