// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// cluster is the cluster of a case. Each line of a section adds an object, or
// replaces the one of that name:
//
//	pool NAME 192.0.2.0/28 192.0.2.50-192.0.2.60 2001:db8::/64 OPTION...
//	    autoassign=no  buggy=avoid  frozen  pin  priority=N
//	    namespaces=a,b  nswith=LABELS  with=LABELS     (LABELS: k=v or k)
//	    quota=a,b:IPV4:IPV6  quota={LABELS}:IPV4:IPV6  quota=*:IPV4:-
//	namespace NAME LABEL...
//	service NS/NAME OPTION...
//	    families=4,6  policy=prefer|require|single  ports=80,udp/53
//	    key=SHARING  local=SELECTOR  labels=k=v,k=v  headless
//	    ask=ADDRESS,ADDRESS  askpool=NAME  invalid=TEXT_WITH_UNDERSCORES
//	    has=ADDRESS,ADDRESS  from=POOL,POOL  deprecated=NAME  born=SECOND
//	    deleting
//	reservation NS/NAME OPTION...
//	    addresses=ADDRESS,ADDRESS  pool=NAME  4=N  6=N  services=a,b  with=LABELS
//	    invalid=TEXT_WITH_UNDERSCORES
//	remember NS/NAME ADDRESS,ADDRESS | forget NS/NAME
//	delete pool NAME | delete service NS/NAME | delete pools | delete reservation NS/NAME
//
// A Service that is replaced keeps its age and its addresses. Otherwise each
// line is younger than the one before it. Namespaces exist when a Service is
// in them, unless "no namespace NAME" says that the cache lacks it.
type cluster struct {
	pools      []lb.Pool
	namespaces []lb.Namespace
	absent     []string
	services   []lb.Service
	clock      int

	reservations []lb.Reservation
	remembered   []lb.Remembered
}

func (c *cluster) edit(section string) error {
	for line := range strings.Lines(section) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) < 2 {
			return fmt.Errorf("line %q: what of it?", line)
		}
		if err := c.line(words); err != nil {
			return fmt.Errorf("line %q: %w", strings.TrimSpace(line), err)
		}
	}
	return nil
}

func (c *cluster) line(words []string) error {
	switch words[0] {
	case "pool":
		p, err := parsePool(words[1], words[2:])
		c.pools = append(slices.DeleteFunc(c.pools, func(o lb.Pool) bool { return o.Name == p.Name }), p)
		return err
	case "namespace":
		ns := lb.Namespace{Name: words[1], Labels: parseLabels(strings.Join(words[2:], ","))}
		c.namespaces = append(slices.DeleteFunc(c.namespaces, func(o lb.Namespace) bool { return o.Name == ns.Name }), ns)
		c.absent = slices.DeleteFunc(c.absent, func(n string) bool { return n == ns.Name })
		return nil
	case "no":
		c.absent = append(c.absent, words[2])
		return nil
	case "service":
		return c.service(words[1], words[2:])
	case "reservation":
		return c.reservation(words[1], words[2:])
	case "remember":
		return c.remember(words[1], words[2])
	case "forget":
		c.forget(words[1])
		return nil
	case "delete":
		return c.remove(words[1:])
	}
	return fmt.Errorf("unknown word %q", words[0])
}

func (c *cluster) remove(words []string) error {
	switch {
	case words[0] == "pools":
		c.pools = nil
	case words[0] == "pool":
		c.pools = slices.DeleteFunc(c.pools, func(p lb.Pool) bool { return p.Name == words[1] })
	case words[0] == "service":
		c.services = slices.DeleteFunc(c.services, func(s lb.Service) bool { return s.Key.String() == words[1] })
	case words[0] == "reservation":
		c.reservations = slices.DeleteFunc(c.reservations, func(r lb.Reservation) bool { return r.Key.String() == words[1] })
	default:
		return fmt.Errorf("cannot delete %q", words[0])
	}
	return nil
}

func (c *cluster) service(name string, options []string) error {
	namespace, rest, ok := strings.Cut(name, "/")
	if !ok {
		return fmt.Errorf("%q is not namespace/name", name)
	}
	c.clock++
	svc := lb.Service{
		Key:          lb.ServiceKey{Namespace: namespace, Name: rest},
		Created:      time.Unix(int64(c.clock), 0),
		Families:     []lb.Family{lb.IPv4},
		FamilyPolicy: lb.SingleStack,
		Ports:        []lb.Port{{Protocol: "TCP", Number: 80}},
	}
	i := slices.IndexFunc(c.services, func(s lb.Service) bool { return s.Key == svc.Key })
	if i >= 0 {
		old := c.services[i]
		svc.Created, svc.Assigned, svc.AssignedPools = old.Created, old.Assigned, old.AssignedPools
	}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if err := serviceOption(&svc, key, value); err != nil {
			return fmt.Errorf("option %q: %w", o, err)
		}
	}
	if i >= 0 {
		c.services[i] = svc
	} else {
		c.services = append(c.services, svc)
	}
	return nil
}

func serviceOption(svc *lb.Service, key, value string) (err error) {
	switch key {
	case "families":
		svc.Families = nil
		for f := range strings.SplitSeq(value, ",") {
			n, err := strconv.Atoi(f)
			if err != nil {
				return err
			}
			svc.Families = append(svc.Families, lb.Family(n))
		}
	case "policy":
		svc.FamilyPolicy = map[string]lb.FamilyPolicy{
			"prefer": lb.PreferDualStack, "require": lb.RequireDualStack, "single": lb.SingleStack,
		}[value]
	case "ports":
		svc.Ports, err = parsePorts(value)
	case "key":
		svc.SharingKey = value
	case "local":
		svc.Local, svc.BackendKey = true, value
	case "labels":
		svc.Labels = parseLabels(value)
	case "deleting":
		svc.Deleting = true
	case "headless":
		svc.Headless, svc.Families = true, nil
	case "ask":
		svc.Request.Addresses, err = parseAddrs(value)
	case "askpool":
		svc.Request.Pool = value
	case "deprecated":
		svc.Request.Deprecated = append(svc.Request.Deprecated, value)
	case "born":
		var second int64
		second, err = strconv.ParseInt(value, 10, 64)
		svc.Created = time.Unix(second, 0)
	case "invalid":
		svc.Request.Invalid = strings.ReplaceAll(value, "_", " ")
	case "has":
		svc.Assigned, err = parseAddrs(value)
	case "from":
		svc.AssignedPools = nil
		if value != "" {
			svc.AssignedPools = strings.Split(value, ",")
		}
	default:
		err = fmt.Errorf("unknown option")
	}
	return err
}

func parsePorts(value string) ([]lb.Port, error) {
	var out []lb.Port
	for p := range strings.SplitSeq(value, ",") {
		protocol, number, ok := strings.Cut(p, "/")
		if !ok {
			protocol, number = "tcp", p
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return nil, err
		}
		out = append(out, lb.Port{Protocol: strings.ToUpper(protocol), Number: uint16(n)})
	}
	return out, nil
}

func parseAddrs(value string) ([]netip.Addr, error) {
	var out []netip.Addr
	for s := range strings.SplitSeq(value, ",") {
		if s == "" {
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func parseLabels(value string) map[string]string {
	out := map[string]string{}
	for l := range strings.SplitSeq(value, ",") {
		if k, v, _ := strings.Cut(l, "="); k != "" {
			out[k] = v
		}
	}
	return out
}

func parsePool(name string, options []string) (lb.Pool, error) {
	p := lb.Pool{Name: name, AutoAssign: true}
	pin := func() *lb.Pin {
		if p.Pin == nil {
			p.Pin = &lb.Pin{}
		}
		return p.Pin
	}
	var err error
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "autoassign":
			p.AutoAssign = value != "no"
		case "buggy":
			p.AvoidBuggyIPs = true
		case "frozen":
			p.Frozen = true
		case "quota":
			var q lb.Quota
			q, err = parseQuota(value)
			p.Quotas = append(p.Quotas, q)
		case "pin":
			pin()
		case "priority":
			pin().Priority, err = strconv.Atoi(value)
		case "namespaces":
			pin().Namespaces = strings.Split(value, ",")
		case "nswith":
			pin().NamespaceSelectors = append(pin().NamespaceSelectors, parseSelector(value))
		case "with":
			pin().ServiceSelectors = append(pin().ServiceSelectors, parseSelector(value))
		default:
			var r lb.Range
			r, err = parseRange(o)
			p.Ranges = append(p.Ranges, r)
		}
		if err != nil {
			return p, fmt.Errorf("option %q: %w", o, err)
		}
	}
	slices.SortFunc(p.Ranges, func(a, b lb.Range) int { return a.From.Compare(b.From) })
	return p, nil
}

func parseSelector(value string) lb.Selector {
	var s lb.Selector
	for l := range strings.SplitSeq(value, ",") {
		k, v, ok := strings.Cut(l, "=")
		switch {
		case ok && strings.HasSuffix(k, "!"):
			s.Requirements = append(s.Requirements, lb.Requirement{Key: strings.TrimSuffix(k, "!"), Op: lb.NotIn, Values: strings.Split(v, "|")})
		case ok:
			s.Requirements = append(s.Requirements, lb.Requirement{Key: k, Op: lb.In, Values: strings.Split(v, "|")})
		case strings.HasPrefix(k, "!"):
			s.Requirements = append(s.Requirements, lb.Requirement{Key: k[1:], Op: lb.DoesNotExist})
		default:
			s.Requirements = append(s.Requirements, lb.Requirement{Key: k, Op: lb.Exists})
		}
	}
	return s
}

func parseRange(text string) (r lb.Range, err error) {
	if from, to, ok := strings.Cut(text, "-"); ok {
		if r.From, err = netip.ParseAddr(from); err == nil {
			r.To, err = netip.ParseAddr(to)
		}
		return r, err
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return r, err
	}
	last := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	r.From = prefix.Masked().Addr()
	r.To, _ = netip.AddrFromSlice(last)
	return r, nil
}

// snapshot is the cluster as a planner sees it.
func (c *cluster) snapshot() lb.Snapshot {
	s := lb.Snapshot{Pools: slices.Clone(c.pools), Services: slices.Clone(c.services)}
	slices.SortFunc(s.Pools, func(a, b lb.Pool) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Services, func(a, b lb.Service) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key))
	})
	namespaces := map[string]lb.Namespace{}
	for _, svc := range c.services {
		namespaces[svc.Key.Namespace] = lb.Namespace{Name: svc.Key.Namespace}
	}
	for _, r := range c.reservations {
		namespaces[r.Key.Namespace] = lb.Namespace{Name: r.Key.Namespace}
	}
	for _, ns := range c.namespaces {
		namespaces[ns.Name] = ns
	}
	for _, name := range c.absent {
		delete(namespaces, name)
	}
	for _, ns := range namespaces {
		s.Namespaces = append(s.Namespaces, ns)
	}
	slices.SortFunc(s.Namespaces, func(a, b lb.Namespace) int { return strings.Compare(a.Name, b.Name) })
	c.addReservations(&s)
	return s
}

// assign writes a plan into the cluster.
func (c *cluster) assign(r ipam.Result) {
	s := after(lb.Snapshot{Services: c.services, Reservations: c.reservations}, r)
	c.services, c.reservations = s.Services, s.Reservations
}
