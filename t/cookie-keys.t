# The keys and the attributes of cookies: what "nginx -t" takes and refuses
# (T40, T30), in which spellings a key is the same key, how keys change while
# people are at work (T28), and that a gateway with the same keys serves the
# cookies of another one.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64 encode_base64url);
use POSIX ();
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $VALIDATION = 'GET /session.json';

# Bytes that have a digit of their own in each alphabet: "+" and "/" or "-"
# and "_".
my $A = "\xfb\xff\xfe" . 'Canary-Key-A-for-the-cookies!';
my $B = 'Canary-Key-B-for-the-cookies!' . "\0\n\xff";
my $C = "\x01" . 'Canary-Key-C-of-the-third-set-' . "\x80";

die 'no keys' if grep { length != 32 } $A, $B, $C;

for my $key ($A, $B, $C) {
    $t->secret(encode_base64url($key), encode_base64($key, ''),
        unpack('H*', $key), uc unpack('H*', $key), $key =~ /(Canary-Key-.)/);
}

sub key_file ($name, $bytes) {
    my $path = $t->write("keys/$name", $bytes);
    chmod 0600, $path;

    return $path;
}

# The same key in each way that it may be written.
sub spellings ($key) {
    my $hex = unpack 'H*', $key;
    my $base64 = encode_base64($key, '');

    return (
        raw => $key,
        'raw and a newline' => "$key\n",
        hex => $hex,
        'hex and a newline' => "$hex\n",
        'hex and CRLF' => "$hex\r\n",
        'hex in capitals' => uc $hex,
        base64 => $base64,
        'base64 and a newline' => "$base64\n",
        'base64 without padding' => $base64 =~ s/=//r,
        base64url => encode_base64url($key),
        'base64url and a newline' => encode_base64url($key) . "\n",
        'base64url with padding' => $base64 =~ tr{+/}{-_}r,
    );
}

sub application ($directives) {
    return <<"END";
quickblox_application chat {
    api http://127.0.0.1:1;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone quickblox 256k;
    $directives
}
END
}

sub location (@lines) { return "server { location / {\n@lines\n} }\n" }

sub accepted ($name, $http) {
    my ($ok, $output) = $t->test_config($http);

    is $output =~ s/^nginx: .*\n//mgr, '', $name or diag $output;
    ok $ok, "$name: accepted" if !$ok;

    return;
}

# What it says: the line with "# here", unless it is of a line below.
sub refused ($name, $http, @says) {
    my ($ok, $output) = $t->test_config($http);
    my $emerg = join "\n", $output =~ /\[emerg\] (.*)/g;
    my @lines = split /\n/, $t->read('test/nginx.conf');
    my ($line) = grep { $lines[$_ - 1] =~ /# here/ } 1 .. @lines;

    my @wrong = (
        $ok ? 'it was accepted' : (),
        !defined $line || $emerg =~ /nginx\.conf:$line\b/ ? ()
            : "does not name line $line",
        map { $emerg =~ $_ ? () : "does not say $_" } @says,
    );

    is join("\n", @wrong), '', "T40: $name" or diag $output;

    return;
}

my $arguments = qr/number of arguments/;
my $duplicate = qr/is duplicate/;


# Keys

my $no_key = qr/is no key of 32 bytes.*openssl rand -hex 32/;
my %a = spellings($A);

# Whatever the spelling, it is the same key: the second one is too many.
for my $how (sort keys %a) {
    my $path = key_file('one', $a{$how});

    accepted("T40: a key: $how", application("cookie_key $path;"));
    refused("the same key: raw, then $how", application('cookie_key '
        . key_file('raw', $A) . " $path; # here"), qr/"cookie_key"/,
        qr/same key as the file before it/);
}

for my $name (qw(B C)) {
    my %of = spellings($name eq 'B' ? $B : $C);
    my @paths = map { key_file("$name-$_" =~ tr/ /-/r, $of{$_}) }
        sort keys %of;
    my $raw = key_file($name, $name eq 'B' ? $B : $C);

    for my $path (@paths) {
        refused("the same key, $name: " . ($path =~ s{.*/}{}r),
            application("cookie_key $raw $path; # here"), qr/same key/);
    }
}

accepted('T40: three keys', application('cookie_key '
    . join(' ', key_file('a', $A), key_file('b', unpack 'H*', $B),
        key_file('c', $C)) . ';'));
accepted('T40: file: as secrets have it',
    application('cookie_key file:' . key_file('a', $A) . ';'));

for my $length (0, 1, 16, 24, 31, 33, 48, 63, 65, 128) {
    my $path = key_file('short', "\xff" x $length);
    refused("a key of $length bytes",
        application("cookie_key $path; # here"), qr/"cookie_key"/, $no_key);
}

my $hex = unpack 'H*', $A;

for my $case (
    ['31 bytes in hex', substr $hex, 2],
    ['33 bytes in hex', "${hex}aa"],
    ['63 hex digits', substr $hex, 1],
    ['65 hex digits', "${hex}a"],
    ['64 digits, one not of hex', substr($hex, 1) . 'g'],
    ['hex with a blank inside', substr($hex, 0, 32) . ' '
        . substr($hex, 32)],
    ['hex on two lines', substr($hex, 0, 32) . "\n" . substr($hex, 32)],
    ['hex and a comment', "$hex # of June"],
    ['0x before', "0x$hex"],
    ['33 bytes', "${A}a"],
    ['31 bytes in base64', encode_base64(substr($A, 1), '')],
    ['33 bytes in base64', encode_base64("${A}a", '')],
    ['base64 with an odd byte', 'A' x 42 . '*'],
    ['31 bytes of text and a newline', 'Canary-Key-' . 'x' x 20 . "\n"],
    ['only newlines', "\n" x 3],
    ['a certificate', "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n"],
) {
    my ($what, $content) = @$case;
    my $path = key_file('bad', $content);
    refused("a key of $what", application("cookie_key $path; # here"),
        qr/"cookie_key": "\Q$path\E"/, $no_key);
}

{
    my $path = key_file('text', 'k' x 32);
    my ($ok, $output) = $t->test_config(application("cookie_key $path;"));

    ok $ok, 'T40: 32 bytes of text are a key';
    like $output, qr/\[warn\] .*"\Q$path\E" is a text.*openssl rand -hex 32/,
        'T40: that nginx -t warns of';
}

{
    my $good = key_file('good', $A);

    refused('a good key and a bad one', application("cookie_key $good "
        . key_file('bad', 'x') . '; # here'), $no_key);
    refused('a key that is not there', application(
        'cookie_key /nonexistent/key; # here'),
        qr{"cookie_key": .*"/nonexistent/key" failed \(2: No such file});
    refused('a key that is a directory', application(
        'cookie_key ' . $t->dir . '; # here'), qr/is not a file/);
    refused('a key that is too large', application('cookie_key '
        . key_file('large', 'x' x 5000) . '; # here'), qr/is not a file of/);
    refused('a key without a name', application('cookie_key file:; # here'),
        qr/"cookie_key"/);
    refused('no key', application('cookie_key; # here'), $arguments);
    refused('two cookie_key', application("cookie_key $good;\n"
        . 'cookie_key ' . key_file('b', $B) . '; # here'), $duplicate);
    refused('a file twice', application("cookie_key $good $good; # here"),
        qr/same key/);

    SKIP: {
        skip 'root reads all files', 1 if $> == 0;
        my $path = key_file('unreadable', $A);
        chmod 0, $path;
        refused('a key that cannot be read',
            application("cookie_key $path; # here"), qr/13: Permission/);
    }

    my $open = key_file('open', $A);
    chmod 0644, $open;
    my ($ok, $output) = $t->test_config(application("cookie_key $open;"));
    ok $ok, 'T40: a key that everybody can read is accepted';
    like $output, qr/\[warn\] .*"cookie_key": .*"\Q$open\E".*chmod o-r/,
        'T40: with a warning';
}


# The cookie

my $key = key_file('key', $A);

sub cookie ($directive) {
    return application("cookie_key $key;\ncookie $directive; # here");
}

for my $good (
    'qb', '__Host-qb', '__Secure-qb', 'qb Path=/', 'qb "Path=/; HttpOnly"',
    'qb " Path=/ ;HttpOnly ;; "',
    'qb Secure; Path=/' =~ s/;/ /r, '__Host-qb Secure Path=/',
    '__Host-qb "Secure; Path=/; SameSite=Strict; HttpOnly; Partitioned"',
    '__Secure-qb Secure Domain=example.com Path=/app',
    'qb SameSite=Lax HttpOnly', 'qb secure httponly samesite=strict path=/',
    'q!#%&*+-.^_`|~b Path=/',
) {
    accepted("T30: cookie $good", cookie($good));
}

my $invalid = qr/invalid cookie name/;
my $host = qr/"__Host-" needs "Secure" and "Path=\/", and no "Domain"/;
my $secure = qr/"__Secure-" needs "Secure"/;
my $known = qr/only "Secure", .* are known/;

for my $case (
    ['', $arguments],
    ['""', $invalid], ['"a b"', $invalid], ['"a;b"', $invalid],
    ['a=b', $invalid], ['a,b', $invalid], ['"a\"b"', $invalid],
    ['ä', $invalid], ["\"a\tb\"", $invalid], ['a/b', $invalid],
    ['__Host-qb Path=/', $host], ['__Host-qb Secure', $host],
    ['__Host-qb Secure Path=/app', $host],
    ['__Host-qb Secure Path=/ Domain=example.com', $host],
    ['__host-qb Path=/', $host], ['__HOST-qb Secure', $host],
    ['__Secure-qb Path=/', $secure], ['__secure-qb HttpOnly', $secure],
    ['qb SameSite=None Path=/', qr/"SameSite=None" needs "Secure"/],
    ['qb SameSite=Any', $known], ['qb SameSite', $known],
    ['qb Path=app', $known], ['qb Path=', $known], ['qb Domain=', $known],
    ['qb Max-Age=60', $known], ['qb Expires=0', $known],
    ['qb Secured', $known], ['qb "Secure=1"', $known],
    ['qb Secure Secure', qr/an attribute twice/],
    ['qb "Path=/; Path=/app"', qr/an attribute twice/],
    ['qb SameSite=Lax SameSite=Strict', qr/an attribute twice/],
    ["qb \"Path=/\r\nX-Forged: 1\"", qr/control/],
    ['qb Path=/ä', qr/8-bit/],
) {
    my ($directive, $says) = @$case;
    my $shown = $directive =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;
    refused("cookie $shown", cookie($directive), $says);
}

refused('two cookies', application("cookie qb;\ncookie qc; # here"),
    $duplicate);

accepted('T40: cookie_lifetime 0', application('cookie_lifetime 0;'));
accepted('T40: cookie_lifetime 12h', application('cookie_lifetime 12h;'));
refused("cookie_lifetime $_",
    application("cookie_lifetime $_; # here"), qr/cookie_lifetime/)
    for 'x', '-1', '""', '5q';
refused('cookie_lifetime twice', application(
    "cookie_lifetime 1h;\ncookie_lifetime 1h; # here"), $duplicate);


# What goes with what

refused('source cookie without cookie_key', application('')
    . location("quickblox chat;\nquickblox_session client cookie; # here"),
    qr/source "cookie".* needs .*"cookie_key".*, write it/);
accepted('T40: source cookie without cookie_key, not used', application('')
    . "quickblox_session cookie;\n" . location(''));
refused('quickblox_login without cookie_key', application('')
    . location("quickblox chat;\nquickblox_login; # here"),
    qr/"quickblox_login".* needs "cookie_key"/);
accepted('T40: quickblox_login token without cookie_key', application('')
    . location("quickblox chat;\nquickblox_login token;"));

{
    my $none = application("cookie_key $key;\n"
        . 'cookie qb Secure SameSite=None Path=/;');
    my $says = qr/"SameSite=None".*quickblox_origin self/;

    refused('SameSite=None without quickblox_origin', $none
        . location("quickblox chat;\nquickblox_session cookie; # here"),
        $says);
    refused('SameSite=None, a login without quickblox_origin', $none
        . location("quickblox chat;\nquickblox_login; # here"), $says);
    refused('SameSite=None, a login whatever its sources', $none
        . location("quickblox chat;\nquickblox_session client;\n"
            . 'quickblox_login; # here'), $says);
    refused('SameSite=None, quickblox_origin in another location', $none
        . 'server { location /a { quickblox_origin self; }' . "\n"
        . "location / { quickblox chat;\nquickblox_session cookie; # here\n"
        . '} }', $says);

    for my $origin ('self', 'https://app.example.com') {
        accepted("T40: SameSite=None with quickblox_origin $origin", $none
            . location("quickblox chat; quickblox_session cookie;\n"
                . "quickblox_origin $origin;"));
        accepted("T40: SameSite=None, inherited $origin",
            "$none quickblox_origin $origin;\n"
            . location('quickblox chat; quickblox_session cookie;'));
    }

    accepted('T40: SameSite=None where no cookie counts', $none
        . location('quickblox chat;'));
}


# A key in each spelling opens what another one has sealed; keys change while
# people are at work; another gateway serves them.

sub configuration ($keys, $port = 0) {
    return <<"END";
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone quickblox 256k;
    cookie qb Path=/;
    cookie_key $keys;
}

server {
    listen 127.0.0.1:%%PORT_$port%%;
    location = /login { quickblox chat; quickblox_login; }
    location = /logout { quickblox chat; quickblox_logout; }
    location = /me { quickblox chat; quickblox_check; }
    location / {
        quickblox chat;
        quickblox_session cookie;
        proxy_pass %%BACKEND%%;
    }
}
END
}

my ($a, $b, $c) = map { key_file(@$_) } ['a', $A], ['b', unpack('H*', $B)],
    ['c', encode_base64url($C)];
my $nginx = $t->nginx(configuration($a), workers => 2);

# A cookie header of a new session.
sub log_in ($port = 0, $token = $api->session(user_id => 5)) {
    my $res = $t->request(path => '/login', port => $t->port($port),
        json => {token => $token});
    my ($value) = ($res->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/
        or die 'no cookie: ' . $res->raw;
    $t->secret(substr $value, 3);

    return $value;
}

sub answers ($cookie, $port = 0) {
    my $res = $t->get('/a', port => $t->port($port),
        headers => [['Cookie', $cookie]]);

    return join ' ', $res->status, map { /^qb=;/ ? 'cleared' : $_ }
        $res->headers('Set-Cookie');
}

sub statuses ($port, @cookies) {
    my %count;
    $count{answers($_, $port)}++ for @cookies;

    return \%count;
}

my $REFUSED = '401 cleared';

# Requests with these cookies, in a process of its own, until it is told to
# end: how often each answer came.
sub load (@cookies) {
    pipe my $reader, my $writer or die "pipe: $!";
    pipe my $alive, my $end or die "pipe: $!";

    my $pid = fork // die "fork: $!";

    if (!$pid) {
        close $end;
        close $reader;

        my %count;
        my $readable = '';

        for (my $i = 0; ; $i++) {
            $count{eval { answers($cookies[$i % @cookies]) } // "died: $@"}++;
            syswrite $writer, '.' if $i == @cookies;

            vec($readable, fileno $alive, 1) = 1;
            last if select $readable, undef, undef, 0;
        }

        syswrite $writer, join '', map { "$_: $count{$_}\n" }
            sort keys %count;
        POSIX::_exit(0);
    }

    close $writer;
    close $alive;

    # Under way
    sysread $reader, my $dot, 1 or die 'no load';

    return sub {
        close $end;
        my $text = do { local $/; <$reader> };
        waitpid $pid, 0;
        return {$text =~ /^(.*): (\d+)$/mg};
    };
}

my @people = map { log_in() } 1 .. 10;

{
    $api->reset_calls;
    my $counted = load(@people);

    for my $keys ("$b $a", "$c $b $a", "$b $a") {
        ok $nginx->reload(configuration($keys)), 'T28: keys change';
    }

    my $count = $counted->();

    is_deeply [keys %$count], [200],
        'T28: under load, three reloads with other keys: nobody is logged out'
        or diag explain $count;
    cmp_ok $count->{200} // 0, '>', 10, 'T28: for that many requests';
    is $api->calls, 0, 'T28: and the API was not asked again';
}

# Two kinds of cookies at work, and then the old key goes.
my @new = map { log_in() } 1 .. 10;

is_deeply statuses(0, @people, @new), {200 => 20},
    'T28: both keys open, the old cookies and the new';

{
    my $counted = load(@new);
    ok $nginx->reload(configuration($b)), 'T28: the old key is removed';
    my $count = $counted->();

    is_deeply [keys %$count], [200],
        'T28: those sealed with the first key never notice'
        or diag explain $count;
    is_deeply statuses(0, @people), {$REFUSED => 10},
        'T28: those of the old key are refused and cleared';
    is_deeply statuses(0, @new), {200 => 10}, 'T28: those of the new one not';
}

# A key of each spelling
{
    my %b = spellings($B);

    for my $how (sort keys %b) {
        ok $nginx->reload(configuration("$c "
            . key_file('spelling', $b{$how}))), "T28: the key: $how";
        is answers($new[0]), 200, "T28: opens what it has sealed: $how";
    }
}

ok !$nginx->reload(configuration(key_file('gone', 'x'))),
    'T28: a reload with a bad key is refused';
$t->allow(qr/"cookie_key": "\S+" is no key/);
is answers($new[0]), 200, 'T28: and all goes on with those before';


# Another gateway: it has nothing but the keys.
{
    my $token = $api->session(user_id => 5);
    my $cookie = log_in(0, $token);

    my $other = $t->nginx(configuration("$a $c", 'other'));
    $api->reset_calls;

    my $res = $t->get('/a', port => $t->port('other'),
        headers => [['Cookie', $cookie]]);
    is_deeply [$res->status, $res->json && $res->json->{token}],
        [200, $token], 'another gateway with the key serves the cookie';
    is_deeply $api->counts, {$VALIDATION => 1},
        'another gateway: asks the API once, and logs nobody in';
    is answers($cookie, 'other'), 200, 'another gateway: and again';
    is $api->calls, 1, 'another gateway: which it remembers itself';

    is answers($people[0], 'other'), 200,
        'another gateway: with a key that is gone here';
    is answers($new[0], 'other'), $REFUSED,
        'another gateway: nothing of a key that it does not have';
    is answers(log_in('other')), $REFUSED, 'another gateway: the other way';

    # Logged out here, it is soon found out there.
    $res = $t->request(path => '/logout', method => 'POST',
        headers => [['Cookie', $cookie]]);
    is $res->status, 200, 'another gateway: logged out at the first';
    is answers($cookie), $REFUSED, 'another gateway: refused there at once';

    my $third = $t->nginx(configuration($c, 'third'));
    is answers($cookie, 'third'), $REFUSED,
        'another gateway: and where nobody has known it before';
}

$t->done;
