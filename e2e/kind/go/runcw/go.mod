module runcw

go 1.26.0
