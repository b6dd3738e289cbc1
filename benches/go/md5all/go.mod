module md5all

go 1.27
