name "app-www"
version "1.0.0"
