package manifest

// A case is a manifest in the file app-www.json and what Parse says of it.
// The schema must agree, unless the rule is beyond what a schema can express.
type parseCase struct {
	name string
	in   string
	want string // all errors, one a line; "" none
	// beyond: the schema accepts it all the same. (Text that is no JSON never
	// reaches a schema.)
	beyond bool
}

var goodCases = []parseCase{
	{name: "least", in: `{"id": "app-www"}`},
	{name: "design", in: `{
  "id": "app-www",
  "command": true,
  "run_list": ["nginx::default", "php::fpm"],
  "environment": {"ENV": "production", "PORT": 8080},
  "requires": {"DATABASE_URL": "{PRIMARY_DATABASE_URL}", "API_URL": "{READONLY_API_URL}"},
  "provides": {"WWW_URL": "http://{HOST}:{PORT}/some-mount"},
  "local_port": 8080, "public": true, "hosts": ["www.example.com"], "federation": "seatgeek",
  "check": {"http": "http://127.0.0.1:{PORT}/health"},
  "priority": 10, "weight": 100, "balance": "roundrobin", "exclusive": ["WWW_URL"],
  "binding": "strict", "user": "www-data", "group": "www-data"
}`},
	{name: "every placeholder", in: `{"id": "app-www", "local_port": 1, "requires": {
  "A": "{K}", "B": "{K?}", "C": "{K:-}", "D": "{K:-some text?}", "E": "{K[]}", "F": "{K[;]}", "G": "{api/K}",
  "H": "{api/K[ ]?}", "I": "{api/K[,]:-none}", "J": "{{x}}", "K": "{HOST}{host}{PORT}{port}{NODE}{node}",
  "L": "{REGION}{region}{FEDERATION}{federation}{ID}{id}", "M": "{api/HOST}", "N": "{{{K}}}", "O": ""}}`},
	{name: "own variables", in: `{"id": "app-www", "environment": {"mount": "/m", "N": 1.50, "On": true, "Off": false},
  "provides": {"U": "{HOST}{mount}{N}{On}{Off}{{}}"}, "check": {"exec": ["/bin/true", "{mount}"]}}`},
	{name: "schema named", in: `{"$schema": "https://example.com/s.json", "id": "app-www"}`},
	{name: "own key optional", in: `{"id": "app-www", "provides": {"PEER": "{HOST}"}, "requires": {"PEERS": "{PEER[]?}", "P": "{app-www/PEER:-}", "Q": "{api/PEER}"}}`},
	{name: "own key relaxed", in: `{"id": "app-www", "binding": "relaxed", "provides": {"PEER": "{HOST}"}, "requires": {"PEERS": "{PEER[]}"}}`},
	{name: "shell command", in: `{"id": "app-www", "command": "make it so"}`},
	{name: "own argv", in: `{"id": "app-www", "command": ["make", "it", ""]}`},
	{name: "only declares", in: `{"id": "app-www", "command": false}`},
	{name: "tcp", in: `{"id": "app-www", "check": {"tcp": "[::1]:80"}}`},
	{name: "tcp of variables", in: `{"id": "app-www", "environment": {"PORT": "80"}, "check": {"tcp": "{HOST}:{PORT}"}}`},
	{name: "shell check", in: `{"id": "app-www", "check": {"exec": "test -e /run/${{X}}"}}`},
	{name: "limits", in: `{"id": "app-www", "weight": 0, "priority": -65535, "local_port": 65535}`},
	{name: "a whole number is a whole number", in: `{"id": "app-www", "weight": 2.56e2, "priority": 1.0}`},
	{name: "others' members", in: `{"id": "app-www", "chef_type": "data_bag_item", "data_bag": "service", "_id": 1, "comment": [{}], "json_class": null, "name": "x"}`},
	{name: "host names", in: `{"id": "app-www", "hosts": ["localhost", "A.example.com", "xn--bcher-kva.example", "1.a"]}`},
	{name: "users", in: `{"id": "app-www", "user": "1000", "group": "host$"}`},
	{name: "empty lists", in: `{"id": "app-www", "run_list": [], "hosts": [], "exclusive": [], "requires": {}, "provides": {}, "environment": {}}`},
}

var syntaxCases = []parseCase{
	{name: "empty", in: "", want: `app-www.json: the file is empty (write at least {"id": "app-www"})`},
	{name: "blank", in: " \n\t\n", want: `app-www.json: the file is empty (write at least {"id": "app-www"})`},
	{name: "BOM", in: "\ufeff{}", want: `app-www.json:1:1: the file begins with a byte order mark (save it as UTF-8 without BOM)`},
	{name: "UTF-16", in: "\xff\xfe{\x00}\x00", want: `app-www.json:1:1: the file is UTF-16 (save it as UTF-8)`},
	{name: "NUL", in: "{\n\"id\": \x00}", want: `app-www.json:2:7: NUL byte (save the file as plain UTF-8 text)`},
	{name: "Latin-1", in: "{\"id\": \"app\",\n \"né\": \"caf\xe9\"}", want: `app-www.json:2:12: not UTF-8 (save the file as UTF-8)`},
	{name: "comma at the end", in: "{\"id\": \"app-www\",\n}", want: `app-www.json:1:17: comma after the last entry (remove the comma)`},
	{name: "comma at the end of an array", in: `{"hosts": ["a", ]}`, want: `app-www.json:1:15: /hosts: comma after the last entry (remove the comma)`},
	{name: "no comma", in: "{\"id\": \"app-www\"\n \"public\": true}", want: `app-www.json:2:2: "\"" where a comma or the end was expected (write a comma between two entries)`},
	{name: "no colon", in: `{"id" "app-www"}`, want: `app-www.json:1:7: /id: "\"" where a colon was expected (write "name": value)`},
	{name: "comment", in: "{\n  // the id\n  \"id\": 1}", want: `app-www.json:2:3: JSON has no comments (remove it)`},
	{name: "hash comment", in: "{\"id\": \"app-www\", # x\n}", want: `app-www.json:1:19: JSON has no comments (remove it)`},
	{name: "single quotes", in: `{'id': 'app-www'}`, want: `app-www.json:1:2: single quotes (write "…")`},
	{name: "no quotes", in: `{"id": app}`, want: `app-www.json:1:8: /id: unexpected "a" (values are "text", numbers, true, false, [ ] and { })`},
	{name: "line break", in: "{\"id\": \"app\n\"}", want: `app-www.json:1:12: /id: line break or tab in a string (write \n or \t, or close the string with ")`},
	{name: "escape", in: `{"id": "a\x"}`, want: `app-www.json:1:10: /id: unknown escape in a string (write \\ for one backslash)`},
	{name: "half a pair", in: `{"id": "a\ud800"}`, want: `app-www.json:1:10: /id: a \u escape that is no character (write the character itself, or \uXXXX with four hex digits)`},
	{name: "cut off", in: `{"id": "app-www", "requires": {"A": "`, want: `app-www.json:1:38: /requires/A: the file ends in the middle of the manifest (was it saved completely? each { [ " needs its end)`},
	{name: "cut off early", in: `{`, want: `app-www.json:1:2: the file ends in the middle of the manifest (was it saved completely? each { [ " needs its end)`},
	{name: "trailing text", in: "{\"id\": \"app-www\"}\n\n{}", want: `app-www.json:3:1: text after the end of the manifest (a file holds one object; remove what follows it)`},
	{name: "one brace too many", in: `{"id": "app-www"}}`, want: `app-www.json:1:18: text after the end of the manifest (a file holds one object; remove what follows it)`},
}

var badCases = []parseCase{
	{name: "array", in: `[{"id": "app-www"}]`, want: `app-www.json:1:1: the manifest is an array, not an object (write {"id": "app-www", …})`},
	{name: "null", in: `null`, want: `app-www.json:1:1: the manifest is null, not an object (write {"id": "app-www", …})`},
	{name: "no id", in: `{}`, want: `app-www.json:1:1: no id (write "id": "app-www")`},
	{name: "another id", in: `{"id": "app"}`, beyond: true, want: `app-www.json:1:8: /id: id "app" in the file app-www.json (rename the file to app.json, or write "app-www")`},
	{name: "bad id", in: `{"id": "App_WWW"}`, want: `app-www.json:1:8: /id: "App_WWW" is no id (write lower-case letters, digits and "-", such as "app-www")`},
	{name: "duplicate member", in: "{\"id\": \"app-www\",\n \"public\": true,\n \"public\": false}", beyond: true, want: `app-www.json:3:2: /public: duplicate member "public" (it stands on line 2 too; keep one)`},
	{name: "duplicate within others'", in: `{"id": "app-www", "x": {"a/b": 1, "a/b": 2}}`, beyond: true, want: `app-www.json:1:35: /x/a~1b: duplicate member "a/b" (it stands on line 1 too; keep one)`},
	{name: "NUL in a string", in: `{"id": "app-www", "x": ["\u00e9\u0000"]}`, beyond: true, want: `app-www.json:1:32: /x/0: NUL (\u0000) in a string (remove it; neither environments nor files can hold it)`},
	{name: "near: plural", in: `{"id": "app-www", "require": {}}`, beyond: true, want: `app-www.json:1:19: /require: unknown member "require" (write "requires")`},
	{name: "near: case", in: `{"id": "app-www", "localPort": 1}`, beyond: true, want: `app-www.json:1:19: /localPort: unknown member "localPort" (write "local_port")`},
	{name: "near: short", in: `{"id": "app-www", "env": {}}`, beyond: true, want: `app-www.json:1:19: /env: unknown member "env" (write "environment")`},
	{name: "near: swapped", in: `{"id": "app-www", "commnad": true}`, beyond: true, want: `app-www.json:1:19: /commnad: unknown member "commnad" (write "command")`},
	{name: "wrong types", in: `{
  "$schema": 1, "id": 1, "command": 1, "run_list": "a",
  "environment": [], "local_port": "80", "requires": [], "provides": "x", "public": "yes",
  "hosts": "a", "federation": 1, "check": "http", "priority": "1", "weight": true, "balance": 1,
  "exclusive": "A", "binding": true, "user": 1000, "group": null}`, want: `app-www.json:2:14: /$schema: a number where a string belongs (write the address of the schema, or leave it out)
app-www.json:2:23: /id: a number where a string belongs (write "app-www")
app-www.json:2:37: /command: a number where a boolean or a string or an array belongs (write true, false, "a shell command" or ["argv", "…"])
app-www.json:2:52: /run_list: a string where an array belongs (write ["nginx::default"])
app-www.json:3:18: /environment: an array where an object belongs (write {"ENV": "production", "PORT": 8080})
app-www.json:3:36: /local_port: a string where a number belongs (write 8080, without quotes)
app-www.json:3:54: /requires: an array where an object belongs (write {"DATABASE_URL": "{PRIMARY_DATABASE_URL}"})
app-www.json:3:70: /provides: a string where an object belongs (write {"WWW_URL": "http://{HOST}:{PORT}/"})
app-www.json:3:85: /public: a string where a boolean belongs (write true or false)
app-www.json:4:12: /hosts: a string where an array belongs (write ["www.example.com"])
app-www.json:4:31: /federation: a number where a string belongs (write "seatgeek")
app-www.json:4:43: /check: a string where an object belongs (write {"http": "http://127.0.0.1:{PORT}/health"})
app-www.json:4:63: /priority: a string where a number belongs (write 10, without quotes)
app-www.json:4:78: /weight: a boolean where a number belongs (write 100, without quotes)
app-www.json:4:95: /balance: a number where a string belongs (write "roundrobin", "leastconn" or "hash")
app-www.json:5:16: /exclusive: a string where an array belongs (write ["WWW_URL"])
app-www.json:5:32: /binding: a boolean where a string belongs (write "strict" or "relaxed")
app-www.json:5:46: /user: a number where a string belongs (write "www-data")
app-www.json:5:61: /group: null where a string belongs (write "www-data", or leave it out)`},
	{name: "empty command", in: `{"id": "app-www", "command": " "}`, want: `app-www.json:1:30: /command: an empty string (write a shell command, or false for none)`},
	{name: "empty argv", in: `{"id": "app-www", "command": []}`, want: `app-www.json:1:30: /command: an empty command (write ["program", "argument", "…"])`},
	{name: "argv", in: `{"id": "app-www", "command": ["", 1]}`, want: `app-www.json:1:31: /command/0: an empty string (write the program to run)
app-www.json:1:35: /command/1: a number where a string belongs (write "argument")`},
	{name: "run_list", in: `{"id": "app-www", "run_list": ["a", 1, ""]}`, want: `app-www.json:1:37: /run_list/1: a number where a string belongs (write "nginx::default")
app-www.json:1:40: /run_list/2: an empty string (write an entry such as "nginx::default", or remove it)`},
	{name: "variable names", in: `{"id": "app-www", "environment": {"A-B": "x"}, "requires": {"1A": "{K}", "": "{K}", "LISTENER_RUN_ID": "{K}"}}`, want: `app-www.json:1:35: /environment/A-B: "A-B" is no variable name (write letters, digits and "_", such as DATABASE_URL)
app-www.json:1:61: /requires/1A: "1A" is no variable name (write letters, digits and "_", such as DATABASE_URL)
app-www.json:1:74: /requires/: "" is no variable name (write letters, digits and "_", such as DATABASE_URL)
app-www.json:1:85: /requires/LISTENER_RUN_ID: LISTENER_RUN_ID is set by listener itself (choose another name)`},
	{name: "values of environment", in: `{"id": "app-www", "environment": {"A": null, "B": ["x"], "C": {}}}`, want: `app-www.json:1:40: /environment/A: null where a string or a number or a boolean belongs (write a string, a number, true or false, or leave it out)
app-www.json:1:51: /environment/B: an array where a string or a number or a boolean belongs (write a string, a number, true or false)
app-www.json:1:63: /environment/C: an object where a string or a number or a boolean belongs (write a string, a number, true or false)`},
	{name: "no second error", in: `{"id": "app-www", "environment": {"PORT": null, "X": []}, "provides": {"A": "{PORT}{X}"}, "check": {"tcp": "{HOST}:{PORT}"}}`, want: `app-www.json:1:43: /environment/PORT: null where a string or a number or a boolean belongs (write a string, a number, true or false, or leave it out)
app-www.json:1:54: /environment/X: an array where a string or a number or a boolean belongs (write a string, a number, true or false)`},
	{name: "no second error of exclusive", in: `{"id": "app-www", "provides": [], "exclusive": ["A"]}`, want: `app-www.json:1:31: /provides: an array where an object belongs (write {"WWW_URL": "http://{HOST}:{PORT}/"})`},
	{name: "in both", in: `{"id": "app-www", "environment": {"A": 1}, "requires": {"A": "{K}"}}`, beyond: true, want: `app-www.json:1:57: /requires/A: A is in environment too (a variable comes from one place; remove one of the two)`},
	{name: "requires itself", in: `{"id": "app-www", "provides": {"K": "{HOST}"}, "requires": {"A": "{K[]}"}}`, beyond: true, want: `app-www.json:1:66: /requires/A: {K[]} is provided by this very service, which would wait for itself (write {K[]?}, or require another key)`},
	{name: "requires itself by name", in: `{"id": "app-www", "requires": {"A": "{app-www/K?}"}}`, beyond: true, want: `app-www.json:1:37: /requires/A: {app-www/K?} names this very service, which does not provide K (remove the service's name, or add the key to provides)`},
	{name: "forgotten braces", in: `{"id": "app-www", "requires": {"A": "PRIMARY_DATABASE_URL", "B": 1}}`, want: `app-www.json:1:37: /requires/A: "PRIMARY_DATABASE_URL" is plain text, not a placeholder (write "{PRIMARY_DATABASE_URL}", or move it to environment)
app-www.json:1:66: /requires/B: a number where a string belongs (write "{PRIMARY_DATABASE_URL}")`},
	{name: "where in the string", in: `{"id": "app-www", "requires": {"A": "\"\u00e9\ud83d\ude00é{a b}"}}`, want: `app-www.json:1:59: /requires/A: {a b}: "a b" is no key (write {AB})`},
	{name: "provides", in: `{"id": "app-www", "provides": {"www": "x", "A": 1, "B": "{K?}", "C": "a\nb", "D": "{hots}"}}`, want: `app-www.json:1:32: /provides/www: "www" is no key (write upper-case letters, digits and "_", such as WWW_URL)
app-www.json:1:49: /provides/A: a number where a string belongs (write "http://{HOST}:{PORT}/")
app-www.json:1:58: /provides/B: {K?} is neither built-in nor in environment (write {NAME} only; {KEY?}, {KEY:-text} and lists belong in requires)
app-www.json:1:72: /provides/C: a line break in what is provided (write one line)
app-www.json:1:84: /provides/D: {hots} is neither built-in nor in environment (write {HOST})`},
	{name: "provides of a key", in: `{"id": "app-www", "environment": {"X": "a\nb"}, "provides": {"A": "{KEY}", "B": "{X}"}}`, beyond: true, want: `app-www.json:1:68: /provides/A: {KEY} is neither built-in nor in environment (add it to environment, or write one of {FEDERATION} {HOST} {ID} {NODE} {PORT} {REGION})
app-www.json:1:81: /provides/B: {X} holds a line break (provide a variable of one line)`},
	{name: "no port", in: `{"id": "app-www", "provides": {"A": "{HOST}:{PORT}"}}`, beyond: true, want: `app-www.json:1:37: /provides/A: {PORT} has no value (add "PORT": 8080 to environment, or "local_port": 8080)`},
	{name: "port that is none", in: `{"id": "app-www", "environment": {"PORT": "http"}, "provides": {"A": "{PORT}"}}`, beyond: true, want: `app-www.json:1:70: /provides/A: {PORT} is environment.PORT, "http", which is no port (write a number from 1 to 65535 there)`},
	{name: "ranges", in: `{"id": "app-www", "local_port": 0, "weight": 257, "priority": 1.5}`, want: `app-www.json:1:33: /local_port: 0 is out of range (write a whole number from 1 to 65535)
app-www.json:1:46: /weight: 257 is out of range (write a whole number from 0 to 256)
app-www.json:1:63: /priority: 1.5 is out of range (write a whole number from -65535 to 65535)`},
	{name: "huge", in: `{"id": "app-www", "local_port": 1e400}`, want: `app-www.json:1:33: /local_port: 1e400 is out of range (write a whole number from 1 to 65535)`},
	{name: "hosts", in: `{"id": "app-www", "hosts": ["http://a", "a:80", "*.a", "10.0.0.1", "a..b", "-a", "a_b", "é.example", "", 1]}`, want: `app-www.json:1:29: /hosts/0: "http://a" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:41: /hosts/1: "a:80" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:49: /hosts/2: "*.a" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:56: /hosts/3: "10.0.0.1" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:68: /hosts/4: "a..b" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:76: /hosts/5: "-a" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:82: /hosts/6: "a_b" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:89: /hosts/7: "é.example" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:102: /hosts/8: "" is no host name (write a name such as "www.example.com", without scheme, port, path or *)
app-www.json:1:106: /hosts/9: a number where a string belongs (write "www.example.com")`},
	{name: "a host twice", in: `{"id": "app-www", "hosts": ["a", "A"]}`, beyond: true, want: `app-www.json:1:34: /hosts/1: "A" is there twice (remove one)`},
	{name: "words", in: `{"id": "app-www", "balance": "leastcon", "binding": "loose", "federation": "a b", "user": "a:b", "group": ""}`, want: `app-www.json:1:30: /balance: unknown balance "leastcon" (write "leastconn")
app-www.json:1:53: /binding: unknown binding "loose" (write "strict" or "relaxed")
app-www.json:1:76: /federation: "a b" is no federation (write letters, digits, ".", "_" and "-", such as "seatgeek")
app-www.json:1:91: /user: "a:b" is no user (write a name such as "www-data", or a number)
app-www.json:1:107: /group: "" is no group (write a name such as "www-data", or a number)`},
	{name: "exclusive", in: `{"id": "app-www", "exclusive": ["K"]}`, beyond: true, want: `app-www.json:1:33: /exclusive/0: "K" is not in provides (add it there, or remove it here)`},
	{name: "no check", in: `{"id": "app-www", "check": {}}`, want: `app-www.json:1:28: /check: an empty check (write {"http": "http://127.0.0.1:{PORT}/health"}, or leave it out)`},
	{name: "two checks", in: `{"id": "app-www", "check": {"tcp": "a:1", "exec": "true"}}`, want: `app-www.json:1:28: /check: more than one check (write one of http, tcp and exec)`},
	{name: "unknown check", in: `{"id": "app-www", "check": {"https": "https://a/"}}`, want: `app-www.json:1:29: /check/https: unknown check "https" (write http, tcp or exec)`},
	{name: "check types", in: `{"id": "app-www", "check": {"exec": 1}}`, want: `app-www.json:1:37: /check/exec: a number where a string or an array belongs (write ["/usr/local/bin/check", "{PORT}"] or "a shell command")`},
	{name: "http check", in: `{"id": "app-www", "check": {"http": "127.0.0.1:80/health"}}`, beyond: true, want: `app-www.json:1:37: /check/http: not an address for http (write "http://127.0.0.1:{PORT}/health")`},
	{name: "tcp check", in: `{"id": "app-www", "check": {"tcp": "127.0.0.1"}}`, beyond: true, want: `app-www.json:1:36: /check/tcp: not host:port (write "127.0.0.1:{PORT}")`},
	{name: "exec check", in: `{"id": "app-www", "check": {"exec": ["", "{X", 1]}}`, want: `app-www.json:1:38: /check/exec/0: an empty string (write the program to run)
app-www.json:1:43: /check/exec/1: { without } (write {{ for a literal brace)
app-www.json:1:48: /check/exec/2: a number where a string belongs (write "argument")`},
	{name: "empty shell check", in: `{"id": "app-www", "check": {"exec": ""}}`, want: `app-www.json:1:37: /check/exec: an empty string (write a shell command)`},
	{name: "shell check with ${}", in: `{"id": "app-www", "check": {"exec": "echo ${X}"}}`, beyond: true, want: `app-www.json:1:44: /check/exec: {X} is neither built-in nor in environment (add it to environment, or write one of {FEDERATION} {HOST} {ID} {NODE} {PORT} {REGION})`},
}
