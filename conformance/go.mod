module clawlock.dev/conformance

go 1.19
