// Command health evaluates a health check of Argo CD, with the interpreter and in the world that Argo CD gives it: a Lua
// script that finds the object in the global obj and returns {status, message}. The object is read as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	lua "github.com/yuin/gopher-lua"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: health SCRIPT <OBJECT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run(script string, in io.Reader, out io.Writer) error {
	source, err := os.ReadFile(script)
	if err != nil {
		return err
	}
	var object map[string]any
	if err := json.NewDecoder(in).Decode(&object); err != nil {
		return fmt.Errorf("the object: %w", err)
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return err
		}
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(string(source)); err != nil {
		return err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return fmt.Errorf("the check returned %v, and no table", state.Get(-1))
	}
	answer := map[string]string{}
	for _, name := range []string{"status", "message"} {
		text, ok := table.RawGetString(name).(lua.LString)
		if !ok {
			return fmt.Errorf("the check's %s is no text", name)
		}
		answer[name] = string(text)
	}
	return json.NewEncoder(out).Encode(answer)
}

// value is JSON as Lua has it: null is nil, so that a field without a value is not there.
func value(state *lua.LState, json any) lua.LValue {
	switch json := json.(type) {
	case bool:
		return lua.LBool(json)
	case float64:
		return lua.LNumber(json)
	case string:
		return lua.LString(json)
	case []any:
		list := state.CreateTable(len(json), 0)
		for _, item := range json {
			list.Append(value(state, item))
		}
		return list
	case map[string]any:
		fields := state.CreateTable(0, len(json))
		for name, field := range json {
			fields.RawSetString(name, value(state, field))
		}
		return fields
	default:
		return lua.LNil
	}
}
