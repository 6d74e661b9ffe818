// A Varlink client for the control socket, made of Debian's golang-github-varlink-go-dev: it
// introspects, calls every method, holds each reply against its description, and streams.
//
//	varlink_client unix:/run/synfind/control.sock SUBSCRIBERS CONNECTIONS
//
// Each line of its output is a check: "ok TEXT" or "not ok TEXT".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/varlink/go/varlink"
	"github.com/varlink/go/varlink/idl"
)

const control = "io.synfind.Control"
const service = "org.varlink.service"

var ctx = context.Background()

func check(good bool, text string, args ...interface{}) {
	word := "ok"
	if !good {
		word = "not ok"
	}
	fmt.Println(word, strings.ReplaceAll(fmt.Sprintf(text, args...), "\n", " "))
}

// Why a value is not of a type; "" if it is.
func differs(d *idl.IDL, t *idl.Type, v interface{}, at string) string {
	good := true
	switch t.Kind {
	case idl.TypeBool:
		_, good = v.(bool)
	case idl.TypeString:
		_, good = v.(string)
	case idl.TypeInt:
		n, is := v.(json.Number)
		_, err := n.Int64()
		good = is && err == nil
	case idl.TypeObject:
		_, good = v.(map[string]interface{})
	case idl.TypeMaybe:
		if v != nil {
			return differs(d, t.ElementType, v, at)
		}
	case idl.TypeAlias:
		for _, a := range d.Aliases {
			if a.Name == t.Alias {
				return differs(d, a.Type, v, at)
			}
		}
		return at + ": no type " + t.Alias
	case idl.TypeArray:
		list, is := v.([]interface{})
		for i, item := range list {
			if why := differs(d, t.ElementType, item, at+"["+strconv.Itoa(i)+"]"); why != "" {
				return why
			}
		}
		good = is
	case idl.TypeEnum:
		good = false
		for _, f := range t.Fields {
			good = good || f.Name == v
		}
	case idl.TypeStruct:
		members, is := v.(map[string]interface{})
		if !is {
			return at + ": no object"
		}
		for _, f := range t.Fields {
			if why := differs(d, f.Type, members[f.Name], at+"."+f.Name); why != "" {
				return why
			}
			delete(members, f.Name)
		}
		for name := range members {
			return at + "." + name + " is not described"
		}
	default:
		good = false
	}
	if !good {
		return fmt.Sprintf("%s: %v", at, v)
	}
	return ""
}

func parse(raw json.RawMessage) interface{} {
	var v interface{}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// That parser is older than capitals in the names of interfaces.
func described(c *varlink.Connection, name string) *idl.IDL {
	text, err := c.GetInterfaceDescription(ctx, name)
	check(err == nil, "%s: its description can be had (%v)", name, err)
	check(strings.Contains(text, "interface "+name+"\n"), "%s: it names it", name)
	d, err := idl.New(strings.Replace(text, "interface "+name, "interface "+strings.ToLower(name), 1))
	check(err == nil, "%s: the package's parser understands it (%v)", name, err)
	return d
}

// The flow_id of an open connection.
func openFlow(c *varlink.Connection) string {
	var list struct {
		Connections []struct {
			Flow string `json:"flow_id"`
		}
	}
	if c.Call(ctx, control+".Connections", nil, &list) != nil || len(list.Connections) == 0 {
		return ""
	}
	return list.Connections[0].Flow
}

func callAll(c *varlink.Connection, d *idl.IDL, name string) {
	for _, m := range d.Methods {
		var raw json.RawMessage
		parameters := map[string]string{}
		if m.Name == "GetInterfaceDescription" {
			parameters["interface"] = control
		} else if m.Name == "Connection" {
			parameters["flow_id"] = openFlow(c)
		}
		err := c.Call(ctx, name+"."+m.Name, parameters, &raw)
		check(err == nil, "%s.%s can be called (%v)", name, m.Name, err)
		why := differs(d, m.Out, parse(raw), m.Name)
		check(why == "", "its reply is as described %s", why)
	}
}

// Streams the subscribers, one a reply, and the connections.
func stream(c *varlink.Connection, want int, open int) {
	receive, err := c.Send(ctx, control+".Subscribers", map[string]int{"limit": 1}, varlink.More)
	n, flags := 0, uint64(varlink.Continues)
	for err == nil && flags&varlink.Continues != 0 {
		var page struct {
			Subscribers []struct{ Id int }
		}
		flags, err = receive(ctx, &page)
		n += len(page.Subscribers)
	}
	check(err == nil && n == want, "more: %d subscribers, one a reply (%v)", n, err)
	receive, err = c.Send(ctx, control+".Connections", map[string]interface{}{"limit": 10000,
		"order": "oldest", "where": "dest_port == 80"}, varlink.More)
	n, flags = 0, uint64(varlink.Continues)
	for replies := 0; err == nil && flags&varlink.Continues != 0; replies++ {
		var page struct{ Connections []json.RawMessage }
		flags, err = receive(ctx, &page)
		n += len(page.Connections)
	}
	check(err == nil && n == open, "more: %d connections (%v)", n, err)
}

func errors(c *varlink.Connection) {
	err := c.Call(ctx, control+".Nothing", nil, nil)
	e, is := err.(*varlink.MethodNotFound)
	check(is && e.Method == control+".Nothing", "MethodNotFound: %v", err)
	err = c.Call(ctx, "io.other.Thing", nil, nil)
	i, is := err.(*varlink.InterfaceNotFound)
	check(is && i.Interface == "io.other", "InterfaceNotFound: %v", err)
	err = c.Call(ctx, control+".Subscribers", map[string]string{"limit": "x"}, nil)
	p, is := err.(*varlink.InvalidParameter)
	check(is && p.Parameter == "limit", "InvalidParameter: %v", err)
}

func main() {
	c, err := varlink.NewConnection(ctx, os.Args[1])
	check(err == nil, "it can connect (%v)", err)
	if err != nil {
		return
	}
	want, _ := strconv.Atoi(os.Args[2])
	open, _ := strconv.Atoi(os.Args[3])
	var vendor, product, version, url string
	var interfaces []string
	err = c.GetInfo(ctx, &vendor, &product, &version, &url, &interfaces)
	check(err == nil && product == "synfind" && version != "" && vendor != "" && url != "",
		"GetInfo: %s %s %s %s (%v)", vendor, product, version, url, err)
	check(strings.Join(interfaces, " ") == service+" "+control, "interfaces: %v", interfaces)
	for _, name := range interfaces {
		if d := described(c, name); d != nil {
			callAll(c, d, name)
			if name == control {
				stream(c, want, open)
			}
		}
	}
	errors(c)
	_, err = c.Send(ctx, control+".Status", nil, varlink.Oneway)
	check(err == nil, "oneway can be sent (%v)", err)
	err = c.GetInfo(ctx, nil, &product, nil, nil, nil)
	check(err == nil && product == "synfind", "and is not answered")
	check(c.Close() == nil, "it disconnects")
}
