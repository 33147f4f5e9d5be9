module clawlock.dev/e2e/writes

go 1.26
