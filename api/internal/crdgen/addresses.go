// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"
)

// overlapLimit is up to how many ranges of one pool are compared with each
// other. Comparing all pairs is quadratic, and the API server stops a rule
// that does more than a million steps; this many take about two thirds of
// that. Larger pools are checked by the controller (condition Valid).
const overlapLimit = 150

// The rules of spec.addresses of IPAddressPool. CEL has no order on addresses
// and no numbers of 128 bits, so an address becomes two unsigned ones and its
// family; IPv4 is first put into IPv6 as RFC 6052 does it:
//
//	10.0.0.7     ->  64:ff9b::a00:7  ->  0x0064ff9b00000000, 0x000000000a000007, 4
//	2001:db8::1  ->  2001:db8::1     ->  0x20010db800000000, 0x0000000000000001, 6
//
// Numbers, not text that sorts the same way: the API server estimates what a
// rule can cost at most, and it knows no bound for the length of made-up text.
func addressRules() map[string]string {
	return map[string]string{
		"addressSyntax": valid("self"),
		"addressSyntaxMessage": `'addresses: "' + self + '" is neither a prefix nor a range: write ' + ` +
			`(isIP(self.trim()) ? self.trim() + (self.contains(':') ? '/128' : '/32') + ' for one address' : ` +
			`'it like 192.0.2.0/24 or 192.0.2.10-192.0.2.20')`,

		"addressFamily": fmt.Sprintf("!self.contains('-') || !%s || ip(%s).family() == ip(%s).family()",
			valid("self"), part("self", 0), part("self", 1)),
		"addressFamilyMessage": `'addresses: "' + self + '" starts and ends in different families: ` +
			`write one range of IPv4 and one of IPv6'`,

		"addressOrder": fmt.Sprintf("!self.contains('-') || !%s || %s.all(f, %s.all(l, %s))",
			valid("self"), number(part("self", 0)), number(part("self", 1)), lessOrEqual("f", "l")),
		"addressOrderMessage": fmt.Sprintf(`'addresses: "' + self + '" ends before it starts: write it as ' + %s + '-' + %s`,
			part("self", 1), part("self", 0)),

		"addressOverlap": fmt.Sprintf("size(self) > %d || !self.all(a, %s) || ", overlapLimit, valid("a")) +
			bounds(fmt.Sprintf("%s.all(i, i >= size(s) || %s)", indexes(), alone("i"))),
		"addressOverlapMessage": bounds(fmt.Sprintf("[%s.filter(i, i < size(s) && !%s)[0]]", indexes(), alone("i")) +
			`.map(i, 'addresses: "' + self[i] + '" overlaps with "' + ` +
			fmt.Sprintf("self[%s.filter(j, j < size(s) && j != i && s[j][2] == s[i][2] && %s && %s)[0]]", indexes(), lessOrEqual("s[i]", "s[j]"), lessOrEqual("s[j]", "e[i]")) +
			` + '": remove one of them, or change them so that no address is in both')[0]`),
	}
}

// valid says whether a is a prefix, or a range of two addresses.
func valid(a string) string {
	return strings.ReplaceAll("(A.contains('-') ? size(A.split('-', 3)) == 2 && A.split('-', 3).all(p, isIP(p.trim())) : isCIDR(A.trim()))", "A", a)
}

// part is the first (0) or last (1) address of the range a.
func part(a string, n int) string {
	return fmt.Sprintf("%s.split('-', 2)[%d].trim()", a, n)
}

// number is a list of one element: the numbers of the address text x.
//
// ip() and string() give the canonical text of RFC 5952; then "::" becomes the
// groups it stands for (8 less the groups that are there, which is the number
// of colons once both ends have a group), each group gets four digits, and CEL
// has no other way to read hexadecimal than to look each digit up.
func number(x string) string {
	return "[string(ip(" + x + ".contains(':') ? " + x + " : '64:ff9b::' + " + x + "))]" +
		".map(t, (t.startsWith('::') ? '0' : '') + t + (t.endsWith('::') ? '0' : ''))" +
		".map(t, t.replace('::', ':' + '0:0:0:0:0:0:0:'.substring(0, 2 * (8 - size(t) + size(t.replace(':', ''))))))" +
		".map(t, t.split(':', 8).map(h, ('000' + h).substring(size(h) - 1)).map(h, uint(" +
		digit(0) + " * 4096 + " + digit(1) + " * 256 + " + digit(2) + " * 16 + " + digit(3) + ")))" +
		".map(g, [((g[0] * 65536u + g[1]) * 65536u + g[2]) * 65536u + g[3], ((g[4] * 65536u + g[5]) * 65536u + g[6]) * 65536u + g[7], " + x + ".contains(':') ? 6u : 4u])"
}

// digit is the value of the n-th digit of h.
func digit(n int) string {
	return fmt.Sprintf("'0123456789abcdef'.indexOf(h.substring(%d, %d))", n, n+1)
}

// first and last are the first and last address of the range or prefix a.
//
// A prefix with b host bits starts where those bits are 0, and ends 2^b - 1
// later. Computed with numbers: masked() gives text of unknown length.
func first(a string) string {
	return a + ".contains('-') ? " + number(part(a, 0)) + "[0] : " + hostBits(a) + ".map(b, " + number(base(a)) + ".map(n, [" +
		"b <= 64 ? n[0] : (b == 128 ? 0u : n[0] - n[0] % (" + power("(b - 64)") + ")), " +
		"b >= 64 ? 0u : n[1] - n[1] % (" + power("b") + "), n[2]])[0])[0]"
}

func last(a string) string {
	const all = "18446744073709551615u"
	return a + ".contains('-') ? " + number(part(a, 1)) + "[0] : " + hostBits(a) + ".map(b, " + number(base(a)) + ".map(n, [" +
		"b <= 64 ? n[0] : (b == 128 ? " + all + " : n[0] - n[0] % (" + power("(b - 64)") + ") + (" + power("(b - 64)") + " - 1u)), " +
		"b >= 64 ? " + all + " : n[1] - n[1] % (" + power("b") + ") + (" + power("b") + " - 1u), n[2]])[0])[0]"
}

// base is the address that the prefix a is written with.
func base(a string) string {
	return a + ".split('/', 2)[0].trim()"
}

// hostBits is a list of one element: 128 less the length of the prefix a.
func hostBits(a string) string {
	return "[(" + a + ".contains(':') ? 128 : 32) - cidr(" + a + ".trim()).prefixLength()]"
}

// power is 2^b, for b below 64.
func power(b string) string {
	return "[1u, 65536u, 4294967296u, 281474976710656u][" + b + " / 16] * " +
		"[1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 4096u, 8192u, 16384u, 32768u][" + b + " % 16]"
}

// lessOrEqual compares two addresses.
func lessOrEqual(x, y string) string {
	return fmt.Sprintf("(%[1]s[0] < %[2]s[0] || (%[1]s[0] == %[2]s[0] && %[1]s[1] <= %[2]s[1]))", x, y)
}

// bounds evaluates expr with s, the first addresses of all ranges, and e, the
// last ones. The indexes are a literal list: the API server multiplies costs
// by the longest possible list, and addresses may be longer than what is
// compared here.
func bounds(expr string) string {
	each := indexes() + ".filter(i, i < size(self)).map(i, "
	return "[" + each + first("self[i]") + ")].map(s, [" + each + last("self[i]") + ")].map(e, " + expr + ")[0])[0]"
}

// alone says whether range i contains the start of no range but itself. Of two
// ranges that overlap, one contains the start of the other. A range that ends
// before it starts is not this rule's business.
func alone(i string) string {
	return fmt.Sprintf("[s[%[1]s]].all(f, [e[%[1]s]].all(l, !%[4]s || s.exists_one(y, y[2] == f[2] && %[2]s && %[3]s)))",
		i, lessOrEqual("f", "y"), lessOrEqual("y", "l"), lessOrEqual("f", "l"))
}

// indexes is the list [0, 1, ...] of overlapLimit numbers.
func indexes() string {
	var b strings.Builder
	for i := range overlapLimit {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(strconv.Itoa(i))
	}
	return "[" + b.String() + "]"
}
