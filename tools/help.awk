# Prints the targets of the Makefile. A target's comment is "## cold | warm | text": how long it takes the first time on
# two cores and when everything is built, the former drawn as a bar of one mark per two minutes.
function bar(s, n, out) {
	if (s !~ /m$/) return ""
	n = int((int(s) + 1) / 2)
	while (n-- > 0) out = out "#"
	return out
}
BEGIN { FS = "## *"; print "make TARGET" }
/^##@/ {
	printf "\n%s\n", substr($0, 5)
	if (!header++) printf "  %-15s %5s %5s\n", "", "first", "again"
}
/^[a-z-]+:.*## / {
	split($2, f, / *\| */); name = $1; sub(/:.*/, "", name)
	printf "  %-15s %5s %5s  %-13s %s\n", name, f[1], f[2], bar(f[1]), f[3]
}
END { print "\nTimes are of a machine with two cores; one # is two minutes of the first run." }
