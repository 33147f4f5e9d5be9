module clawlock.dev/e2e/tools

go 1.26
