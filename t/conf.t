# The configuration: what "nginx -t" refuses, and how it says so (T40); what it
# warns of; what it accepts, and where; secrets from files and the environment.

use strict;
use warnings;
use lib 't/lib';

use Gateway;
use Test::More;

my $t = Gateway->new;

# A value of its own each, so that none can be taken for another.
my $canary = 'Canary-Conf-';
my @canaries = map { $canary . $_ } qw(Key Secret Password Two Url File Env);
$t->secret(@canaries);

my %good = (
    api => 'http://127.0.0.1:1',
    application_id => 92,
    auth_key => $canary . 'Key',
    auth_secret => $canary . 'Secret',
    zone => 'quickblox 1m',
);

# An application with these directives changed; undef leaves one out.
sub application {
    my ($name, %change) = @_;
    my %all = (%good, %change);

    return join "\n", "quickblox_application $name {",
        (map { "    $_ $all{$_};" } grep { defined $all{$_} } sort keys %all),
        "}\n";
}

sub location { return "server { location / {\n@_\n} }\n" }

# The line of the error has "# here" at its end; what is found when all has
# been read is of the application's block.
sub refused {
    my ($name, $http, $directive, $says, %opt) = @_;

    my $here = delete $opt{block} ? qr/quickblox_application/ : qr/# here/;

    my ($ok, $output) = $t->test_config($http, %opt);

    my @lines = split /\n/, $t->read('test/nginx.conf');
    my ($line) = grep { $lines[$_ - 1] =~ $here } 1 .. @lines;
    my $emerg = join "\n", $output =~ /\[emerg\] (.*)/g;
    my $file = quotemeta $t->dir . '/test/nginx.conf';

    my @wrong = (
        $ok ? 'it was accepted' : (),
        defined $line ? () : 'the test says no line',
        $emerg =~ /$file:$line\b/ ? () : "does not name line $line",
        $emerg =~ /\b\Q$directive\E\b/ ? () : "does not name $directive",
        $emerg =~ $says ? () : "does not say $says",
        (map { "shows $_" } grep { $output =~ /\Q$_/ } @canaries),
    );

    # One assertion each.
    is join("\n", @wrong), '', "T40: $name" or diag $output;

    return;
}

# A directive of an application with a bad value; what else is changed there.
sub bad {
    my ($directive, $value, $says, %change) = @_;
    my $opt = delete $change{opt} // {};

    # By the number of bytes: the values may have line ends.
    my $shown = length $value ? $value : 'nothing';
    $shown = substr($shown, 0, 30) =~ s/[\r\n\0]/./gr;

    my $http = application('chat', $directive => undef, %change);
    my $line = length $value ? "$directive $value;" : "$directive;";
    $http =~ s/\}\n\z/    $line # here\n}\n/;

    refused("$directive: $shown", $http, $directive, $says, %$opt);

    return;
}

sub accepted {
    my ($name, $http, %opt) = @_;

    my ($ok, $output) = $t->test_config($http, %opt);

    is $output =~ s/^nginx: .*\n//mgr, '', $name or diag $output;
    ok $ok, "$name: accepted" if !$ok;

    return;
}

sub says { return qr/\Q${\ join '', @_}\E/ }

my $arguments = qr/number of arguments/;
my $duplicate = qr/duplicate/;


# Secrets: by no message is one shown.

my $two_lines = $t->write('two-lines', "${canary}File\n${canary}Two\n");
my $empty = $t->write('empty', '');
my $newline = $t->write('newline', "\n");
my $nul = $t->write('nul', "${canary}File\0");
my $long = $t->write('long', 'x' x 4097);
my $file = $t->write('secret', "${canary}File\n");
chmod 0600, $two_lines, $empty, $newline, $nul, $long, $file;

for my $directive (qw(auth_key auth_secret login email password api_key)) {
    my %and = $directive =~ /login|email/
        ? (password => $canary . 'Password') : ();

    for my $case (
        ['""', qr/empty/],
        ["\"${canary}File\n${canary}Two\"", qr/more than one line/],
        ["\"${canary}File\\r\"", qr/more than one line/],
        ["${canary}File ${canary}Two", $arguments],
        ['', $arguments],
        ['file:', qr/file:PATH/],
        ["file:$two_lines", qr/more than one line/],
        ["file:$nul", qr/more than one line/],
        ["file:$empty", qr/empty/],
        ["file:$newline", qr/empty/],
        ["file:$long", qr/at most 4096 bytes/],
        ['file:' . $t->dir, qr/not a file/],
        ['file:/nonexistent/secret',
            qr{"/nonexistent/secret" failed \(2: No such file}],
        ['env:', qr/env:NAME/],
        ['env:QUICKBLOX_UNSET', qr/"QUICKBLOX_UNSET" is not set/],
        ['env:QUICKBLOX_EMPTY', qr/empty/],
        ['env:QUICKBLOX_LINES', qr/more than one line/],
    ) {
        bad($directive, @$case, %and, opt => {env => {
            QUICKBLOX_UNSET => undef,
            QUICKBLOX_EMPTY => '',
            QUICKBLOX_LINES => "${canary}Env\n${canary}Two",
        }});
    }

    my $twice = application('chat', $directive => $canary . 'File', %and)
        =~ s/\}\n\z/$directive ${canary}Two; # here\n}\n/r;
    refused("$directive: twice", $twice, $directive, $duplicate);
}


# Keys of cookies: no key is shown, nor what may be meant as one

my $bytes = "${canary}Key-" . "\x01" x 16;
my $hex = '0123456789abcdef' x 4;
my $base64 = 'Q2FuYXJ5LUNvbmYtS2V5LQEBAQEBAQEBAQEBAQEBAQE=';
$t->secret($bytes, $hex, $base64);

my $key = $t->write('key', $hex);
my $other_key = $t->write('other-key', $base64);
my %key = (
    'one byte short' => substr($bytes, 1),
    'one byte long' => $bytes . "\x02",
    'a text and a newline' => "${canary}Key-" . 'x' x 15 . "\n",
    'half of hex' => substr($hex, 1),
    'no hex' => substr($hex, 1) . 'g',
    'two of hex' => "$hex$hex",
    'short base64' => substr($base64, 4),
    'no base64' => '*' . substr($base64, 1),
    'base64 of 31 bytes' => substr($base64, 0, 42) . '==',
    'two lines' => "$hex\n$hex\n",
    'empty' => '',
);

chmod 0600, $key, $other_key;

for my $name (sort keys %key) {
    my $path = $t->write("key-$name" =~ tr/ /-/r, $key{$name});
    chmod 0600, $path;

    bad('cookie_key', $path, says('is no key of 32 bytes, plain, in hex ',
        'or in base64, write one with "openssl rand -hex 32"'));
    bad('cookie_key', "$key file:$path", qr/"\Q$path\E" is no key/);
}

for my $case (
    ['', $arguments],
    ['""', qr/write "cookie_key file:PATH;"/],
    ['file:', qr/write "cookie_key file:PATH;"/],
    ['/nonexistent/key', qr{"/nonexistent/key" failed \(2: No such file}],
    ['file:/nonexistent/key', qr{"/nonexistent/key" failed \(2: No such}],
    [$t->dir, qr/not a file/],
    ["$key $key", qr/has the same key as the file before it, remove one/],
    ["$key $other_key file:$key", qr/has the same key/],
) {
    bad('cookie_key', @$case);
}

SKIP: {
    skip 'root reads everything', 1 if $> == 0;
    my $unreadable = $t->write('unreadable', $hex);
    chmod 0, $unreadable;
    bad('cookie_key', $unreadable, qr/Permission denied/);
}

# The same key in another form.
my $raw = $t->write('key-raw', $bytes);
chmod 0600, $raw;
bad('cookie_key', "$other_key $raw", qr/has the same key as the file before/);

$bytes =~ s/^C/D/;
$t->secret($bytes);
$t->write('key-raw', $bytes);
my @good = ($raw, map { $t->write("key-$_->[0]", $_->[1]) }
    ['hex-line', uc("${hex}") =~ s/0/f/r . "\n"],
    ['base64-line', $base64 =~ s/Q2/Q3/r . "\r\n"],
    ['base64-bare', $base64 =~ s/Q2/Q4/r =~ s/=//r],
    ['base64url', $base64 =~ s/Q2Fu/-_Fu/r]);
chmod 0600, @good;

accepted('T40: keys of every form',
    application('chat', cookie_key => "$key file:$other_key @good"));


# What browsers are told of cookies

my $cookie_name = qr/invalid cookie name .*write for example "cookie __Host/;
my $attributes = qr{write for example "cookie \S+ Secure HttpOnly SameSite=};

for my $case (
    ['', $arguments],
    (map { [$_, $cookie_name] } '""', '"a b"', 'a=b', '"a;b"', '"a,b"',
        'a/b', '"a\"b"', "\xc3\xa4", '$host$arg_a/', '"(a)"'),
    (map { ["session $_", $attributes] } 'Max-Age=5', 'Expires=never',
        'HttpOnly=1', 'SameSite', 'SameSite=Loose', 'SameSite=None',
        'Path=', 'Path=app', 'Domain=', 'Secured', '"Secure; Nonsense"',
        'Secure Secure', 'Path=/ Path=/app', 'SameSite=Lax SameSite=Strict',
        'Domain=a.test Domain=b.test', "\"Path=/\x07\"", "Path=/\xc3\xa4"),
    (map { ["__Host-a $_", says('that begins with "__Host-" needs "Secure" ',
        'and "Path=/", and no "Domain", write')] } 'Secure', 'Path=/',
        'Secure Path=/app',
        'Secure Path=/ Domain=a.test', 'HttpOnly'),
    ['__host-a Path=/', qr/"__Host-" needs "Secure"/],
    (map { ["__Secure-a $_", qr/"__Secure-" needs "Secure", $attributes/] }
        'Path=/', 'HttpOnly'),
    ['__SECURE-a Path=/', qr/"__Secure-" needs "Secure"/],
    ['session "SameSite=None; Path=/"', qr/"SameSite=None" needs "Secure"/],
) {
    bad('cookie', @$case);
}

accepted("T40: cookie $_", application('chat', cookie => $_))
    for 'session', '__Host-session', '__Host-a Secure Path=/',
        '__Secure-a "Secure; HttpOnly; SameSite=Strict; Path=/app"',
        'a Domain=example.com Path=/', 'a "secure;httponly"',
        'a Secure SameSite=None Path=/ Partitioned', 'a ""';


# Other directives of an application

my $url = qr{write "api https://host\[:port\]\[/path\];"};
my $id = qr/write the number that the QuickBlox dashboard shows/;
my $time = qr/write .*\d+[smh]\b/;
my $zone = qr/zone quickblox 10m;/;

for my $case (
    [api => '127.0.0.1', $url],
    [api => 'ftp://127.0.0.1', $url],
    [api => 'https://', $url],
    [api => 'http://:80', $url],
    [api => 'http://127.0.0.1:0', $url],
    [api => 'http://127.0.0.1:65536', $url],
    [api => 'https://$host', qr/variables.*$url/],
    [api => 'https://127.0.0.1/?a=b', $url],
    [api => 'https://127.0.0.1/#a', $url],
    [api => "https://user:${canary}Url\@127.0.0.1", $url],
    [api => '', $arguments],
    [api => 'http://127.0.0.1 http://127.0.0.2', $arguments],
    [api_host => '', $arguments],
    [application_id => 0, $id],
    [application_id => -1, $id],
    [application_id => '092', $id],
    [application_id => '92x', $id],
    [application_id => 'chat', $id],
    [application_id => '""', $id],
    [application_id => '18446744073709551616', $id],
    [application_id => '', $arguments],
    [signature => 'md5', qr/write .*sha1.*sha256/],
    [signature => '', $arguments],
    [on_behalf_of => '', $arguments, api_key => $canary . 'Two'],
    [zone => 'quickblox 31k', qr/too small.*at least 32k/],
    [zone => 'quickblox 0', qr/too small.*at least 32k/],
    [zone => 'quickblox large', $zone],
    [zone => 'quickblox 1m 2m', $arguments],
    [zone => '"" 1m', qr/empty name/],
    [zone => '', $arguments],
    [ssl_verify => 'maybe', qr/must be "on" or "off"/],
    [ssl_verify => '', $arguments],
    [ssl_verify_depth => 'x', qr/write .*\d/],
    [ssl_verify_depth => -1, qr/write .*\d/],
    [ssl_verify_depth => '', $arguments],
    [ssl_protocols => 'TLSv9', qr/write .*TLSv1\.2.*TLSv1\.3/],
    [ssl_protocols => '', $arguments],
    [ssl_ciphers => 'nonsense', qr/no cipher match/,
        api => 'https://127.0.0.1', opt => {block => 1}],
    [ssl_ciphers => '', $arguments],
    [ssl_trusted_certificate => '/nonexistent/ca.pem', qr/No such file/,
        api => 'https://127.0.0.1', opt => {block => 1}],
    [ssl_trusted_certificate => $empty, qr/certificate/,
        api => 'https://127.0.0.1', opt => {block => 1}],
    [ssl_trusted_certificate => '', $arguments],
) {
    bad(@$case);
}

for my $directive (qw(session_lifetime basic_valid refresh_before cache_valid
    cache_invalid cache_stale cookie_lifetime connect_timeout timeout
    lock_timeout))
{
    bad($directive, $_, $time) for 'x', '-1', '""', '5q', '5s5s';
    bad($directive, '', $arguments);
    bad($directive, '5 s', $arguments);

    # Of these 0 has a meaning.
    if ($directive =~ /cache_(?:invalid|stale)|cookie_lifetime/) {
        accepted("T40: $directive 0", application('chat', $directive => 0));
        next;
    }

    # Found when the block is complete: at its end.
    refused("$directive: 0", application('chat', $directive => 0)
        =~ s/\}\n\z/} # here\n/r, $directive, qr/is 0, $time/);
}

my %other = (
    api => 'http://127.0.0.2',
    api_host => 'api.quickblox.com',
    application_id => 93,
    signature => 'sha256',
    on_behalf_of => 7,
    zone => 'other 1m',
    ssl_verify => 'off',
    ssl_verify_depth => 2,
    ssl_protocols => 'TLSv1.3',
    ssl_ciphers => 'HIGH',
    ssl_trusted_certificate => 'ca.pem',
    cookie_key => $key,
    cookie => 'session Path=/ HttpOnly',
    map({ $_ => '20s' } qw(session_lifetime basic_valid refresh_before
        cache_valid cache_invalid cache_stale cookie_lifetime connect_timeout
        timeout lock_timeout)),
);

for my $directive (sort keys %other) {
    # With several values in one directive this is how to write them.
    next if $directive eq 'ssl_protocols';

    my $twice = application('chat', api_key => $canary . 'Two',
        $directive => $other{$directive})
        =~ s/\}\n\z/$directive $other{$directive}; # here\n}\n/r;
    refused("$directive: twice", $twice, $directive, $duplicate);
}


# Combinations

for my $case (
    ['timeout above 10m', 'timeout', qr/is 601000ms, write at most "10m"/,
        timeout => '601s'],
    ['no application_id', 'application_id', qr/write "application_id number;"/,
        application_id => undef],
    ['no zone', 'zone', qr/write "$zone"/, zone => undef],
    ['login and email', 'email', qr/both "login" and "email", write one/,
        login => 'gateway', email => 'gateway@example.com',
        password => $canary . 'Password'],
    ['login without password', 'password', qr/"login" without "password"/,
        login => 'gateway'],
    ['email without password', 'password', qr/"email" without "password"/,
        email => 'gateway@example.com'],
    ['on_behalf_of without api_key', 'api_key',
        qr/"on_behalf_of" without "api_key"/, on_behalf_of => 7],
    ['refresh_before equal to session_lifetime', 'refresh_before',
        qr/is 3600s, it must be below "session_lifetime", 3600s/,
        refresh_before => '1h', session_lifetime => '60m'],
    ['refresh_before above session_lifetime', 'refresh_before',
        qr/is 300s, it must be below "session_lifetime", 60s/,
        session_lifetime => '1m'],
) {
    my ($name, $directive, $says, %change) = @$case;

    refused($name, application('chat', %change) =~ s/\}\n\z/} # here\n/r,
        $directive, $says);
}

# What is known only when all of "http" is read.

sub at_block { return $_[0] =~ s/(quickblox_application chat \{)/$1 # here/r }

refused('a zone whose size nobody gives',
    at_block(application('chat', zone => 'quickblox')), 'zone',
    qr/write "zone quickblox 10m;"/);

refused('a host that cannot be resolved',
    at_block(application('chat', api => 'http://api.invalid')), 'api',
    qr/host not found.*"api\.invalid"/);

refused('too many applications for a zone',
    at_block(join '', map({ application("app$_", zone => 'quickblox') } 1, 2),
        application('chat', zone => 'quickblox 32k')), 'zone',
    qr/has no place for application "chat".*it holds 2.*make it larger/);

refused('two sizes of a zone', application('chat')
    . application('other', zone => 'quickblox 2m')
    =~ s/(zone .*)/$1 # here/r, 'quickblox', qr/size.*conflicts/);

refused('a zone of another module',
    'limit_req_zone $uri zone=quickblox:1m rate=1r/s;' . "\n"
    . application('chat') =~ s/(zone .*)/$1 # here/r, 'quickblox',
    qr/already declared for a different use|is already bound/);

refused('two applications of one name', application('chat')
    . application('chat') =~ s/\{/{ # here/r, 'chat',
    qr/duplicate quickblox application.*first is in \S+nginx\.conf:\d+/);

for my $name ('off', '""') {
    refused("an application called $name",
        application($name) =~ s/\{/{ # here/r, 'application',
        qr/write a word other than "off"/);
}

for my $names ('', 'one two') {
    refused("quickblox_application $names {",
        application($names) =~ s/\{/{ # here/r, 'quickblox_application',
        $arguments);
}


# Directives of later versions are not accepted yet: none is silently ignored.

bad(nonsense => 1, qr/unknown directive "nonsense" in quickblox application/);

refused("$_: unknown", application('chat')
    . location("quickblox chat;\n$_ on; # here"), $_,
    qr/unknown directive "$_"/)
    for qw(quickblox_state quickblox_nonsense);


# http, server, location, limit_except

my $sources = says('write "client", "basic", "cookie", "user", ',
    '"user_token", "application", "api_key" or "none"');
my $origin = qr{write "self" or a scheme, a host and a port};
my $never = qr/never reached.*change the order or remove it/;

for my $case (
    [quickblox => '', $arguments],
    [quickblox => 'chat other', $arguments],
    [quickblox => 'other',
        qr/unknown .*"other".*write "quickblox_application other \{/],
    [quickblox_session => '', $arguments],
    (map { [quickblox_session => $_, $sources] }
        qw(nonsense Client cookies user-token), '""',
        'client nonsense user', 'basic "" user'),
    (map { [quickblox_session => $_, $never] } 'user client',
        'application user', 'api_key none', 'none client',
        'client user application', 'client none user', 'user basic',
        'user cookie', 'application user_token', 'api_key basic',
        'none cookie', 'client basic cookie user_token user application'),
    (map { [quickblox_session => "$_ $_", qr/duplicate source "$_"/] }
        qw(client basic cookie user_token)),
    [quickblox_session => 'cookie client cookie',
        qr/duplicate source "cookie"/],
    [quickblox_user => '', $arguments],
    [quickblox_user => '$arg_a $arg_b', $arguments],
    [quickblox_user => '$nonsense', qr/unknown "nonsense" variable/],
    [quickblox_origin => '', $arguments],
    (map { [quickblox_origin => $_, $origin] } 'selv', 'null', '"*"', '""',
        'https://', 'app.example.com', '//app.example.com',
        'ftp://app.example.com', 'https://app.example.com/',
        'https://app.example.com/path', 'https://*.example.com',
        'https://app.example.com?a', '"https://app.example.com#a"',
        'https://user@app.example.com', 'https://$host', 'https://$arg_a',
        '"https://a b"', '"https://a.test\\\\"', 'https://Ã¤.de',
        'self https://app.example.com/', 'https://app.example.com *'),
    [quickblox_on_expired => '', $arguments],
    [quickblox_on_expired => '/a /b', $arguments],
    (map { [quickblox_on_expired => $_,
        qr/write one that begins with "\/", or "off"/] }
        'expired', 'http://127.0.0.1/', '@named', '""', '$uri', 'Off', 'on'),
    [quickblox_token => '', $arguments],
    [quickblox_require => '', $arguments],
    [quickblox_require => 'admin', qr/write "user" or "any", then variables/],
    [quickblox_require => '$arg_a', qr/write "user" or "any"/],
    [quickblox_require => 'user arg_a', qr/"arg_a".*not a variable/],
    [quickblox_require => 'user ""', qr/not a variable/],
    [quickblox_application_access => 'all', qr/write .*read.*write/],
    [quickblox_application_access => '', $arguments],
    (map { [quickblox_header => $_, qr/write letters, digits, "-" and "_"/] }
        '""', '"A B"', 'A:', 'ä', 'A=B', '$arg_a'),
    (map { [quickblox_header => $_, qr/frames or routes.*choose another/] }
        qw(Host Connection Content-Length Transfer-Encoding Upgrade
            Keep-Alive Proxy-Connection TE Trailer Expect HTTP2-Settings
            host CONTENT_LENGTH transfer_encoding)),
    [quickblox_header => '', $arguments],
    [quickblox_header => 'A B', $arguments],
    [quickblox_preflight => 'on', qr/write "pass" or "off"/],
    [quickblox_preflight => '', $arguments],
    [quickblox_forget => 'yes', qr/write .*auto.*on.*off/],
    [quickblox_forget => '', $arguments],
    [quickblox_replay => 'yes', qr/must be "on" or "off"/],
    [quickblox_replay => '', $arguments],
    (map { [quickblox_expired => $_,
        qr/write 400 to 599, and last a text/] }
        '200', '399', '600', '-401', 'gone', '401 gone again',
        '401 gone 403'),
    [quickblox_expired => '401 ""', qr/empty text/],
    [quickblox_expired => '', $arguments],
    [quickblox_expired_buffer => 'large', qr/write .*8k/],
    [quickblox_expired_buffer => '-1', qr/write .*8k/],
    [quickblox_expired_buffer => '', $arguments],
) {
    my ($directive, $value, $says) = @$case;
    my $line = length $value ? "$directive $value" : $directive;

    # This is nginx's own message, which comes when all has been read.
    if ($says =~ /unknown "nonsense"/) {
        my ($ok, $output) = $t->test_config(application('chat')
            . location("quickblox chat;\n$line;"));
        ok !$ok && $output =~ $says, "T40: $directive: $value"
            or diag $output;
        next;
    }

    refused("$directive: " . ($value || 'nothing'),
        application('chat') . location(
            $directive eq 'quickblox' ? () : "quickblox chat;\n",
            "$line; # here"), $directive, $says);
}

my %value = (
    quickblox => 'chat',
    quickblox_session => 'client',
    quickblox_token => '$arg_token $http_authorization',
    quickblox_require => 'any $arg_a $arg_b',
    quickblox_application_access => 'write',
    quickblox_header => 'X-Token',
    quickblox_preflight => 'pass',
    quickblox_forget => 'on',
    quickblox_user => '$arg_user',
    quickblox_origin => 'self https://app.example.com http://[::1]:8080',
    quickblox_on_expired => '/expired?from=$uri',
    quickblox_replay => 'off',
    quickblox_expired => '401 403 gone',
    quickblox_expired_buffer => '4k',
);

for my $directive (sort keys %value) {
    my $line = "$directive $value{$directive};";

    refused("$directive: twice", application('chat')
        . location("$line\n$line # here"), $directive, $duplicate);

    refused("$directive: in if", application('chat')
        . location("if (\$arg_a) {\n$line # here\n}"), $directive,
        qr/not allowed here/);

    for my $context ('%s', 'server { %s }', 'server { location / { %s } }',
        'server { location / { limit_except GET { %s } } }')
    {
        accepted("$directive in " . ($context =~ /(\w+)[^\w%]*%s/
            ? $1 eq 'GET' ? 'limit_except' : $1 =~ s/^$/http/r : 'http'),
            application('chat') . sprintf $context, $line);
    }
}

for my $context ('server { %s }', 'server { location / { %s } }') {
    my $block = application('chat') =~ s/\{/{ # here/r;
    refused('quickblox_application in ' . ($context =~ s/ .*//r),
        sprintf($context, $block), 'quickblox_application',
        qr/not allowed here/);
}

# What a source needs is asked of the location that uses it, wherever the
# directives are inherited from.
for my $case (
    ['user', 'login', auth_key => $good{auth_key}],
    ['user', 'auth_key', login => 'gateway', auth_key => undef],
    ['user', 'auth_secret', login => 'gateway', auth_secret => undef],
    ['application', 'auth_key', auth_key => undef],
    ['client application', 'auth_secret', auth_secret => undef],
    ['api_key', 'api_key'],
    ['basic', 'auth_key', auth_key => undef],
    ['client basic', 'auth_secret', auth_secret => undef],
    ['cookie', 'cookie_key'],
    ['client cookie', 'cookie_key', cookie => 'session Path=/'],
) {
    my ($session, $missing, %change) = @$case;
    my $source = $session =~ s/.* //r;
    $change{password} = $canary . 'Password' if $change{login};

    refused("source $source without $missing", application('chat', %change)
        . location("quickblox chat;\nquickblox_session $session; # here"),
        $missing, qr/source "$source".* needs .*"$missing".*, write it/);

    refused("source $source without $missing, inherited",
        application('chat', %change) . "quickblox_session $session;\n"
        . location("quickblox chat; # here"), $missing,
        qr/source "$source".* needs/);

    accepted("source $source without $missing, not used",
        application('chat', %change) . "quickblox_session $session;\n"
        . location(''));
}

for my $session ('user_token', 'client user_token') {
    refused("$session without api_key", application('chat')
        . location('quickblox chat; quickblox_user $arg_a;',
            "\nquickblox_session $session; # here"), 'api_key',
        qr/source "user_token".* needs "api_key", write it/);

    refused("$session without quickblox_user",
        application('chat', api_key => $canary . 'Two')
        . location("quickblox chat;\nquickblox_session $session; # here"),
        'quickblox_user', qr/write "quickblox_user \$variable;"/);

    accepted("T40: $session, with what it needs inherited",
        application('chat', api_key => $canary . 'Two')
        . 'quickblox_user $arg_a; quickblox chat;'
        . location("quickblox_session $session;"));
}


# Content handlers

my @handlers = qw(quickblox_login quickblox_logout quickblox_check
    quickblox_status);
my $with_key = application('chat', cookie_key => $key);

for my $handler (@handlers) {
    my $parameter = {quickblox_login => 'token', quickblox_check => 'token',
        quickblox_logout => 'destroy', quickblox_status => 'html'}->{$handler};

    for my $context ('', 'server { ', 'server { location / { if ($arg_a) { ',
        'server { location / { limit_except GET { ')
    {
        my $braces = '}' x ($context =~ tr/{//);
        refused("$handler in " . ($context =~ /(\w+)[^\w{]*\{[^{]*\z/
                ? $context =~ /limit/ ? 'limit_except'
                : $context =~ /if/ ? 'if' : 'server' : 'http'),
            "$with_key$context\n$handler; # here\n$braces", $handler,
            qr/not allowed here/);
    }

    for my $case (
        ['on', qr/invalid parameter "on" in "$handler", write "$parameter"/],
        ['""', qr/invalid parameter "" in "$handler", write "$parameter"/],
        [uc $parameter, qr/invalid parameter .*write "$parameter"/],
        ["$parameter application x", $arguments],
        $handler eq 'quickblox_login'
            ? (['application', qr/write "quickblox_login token application;"/],
                ['application token', qr/write "quickblox_login token appl/],
                ['token fresh', qr/invalid parameter "fresh" .*write "token"/])
            : (["$parameter x", $arguments]),
    ) {
        my ($value, $says) = @$case;
        refused("$handler $value", $with_key
            . location("quickblox chat;\n$handler $value; # here"), $handler,
            $says);
    }

    refused("$handler: twice", $with_key
        . location("quickblox chat; $handler;\n$handler; # here"), $handler,
        $duplicate);

    # Where the directive is known, so is its line, wherever "quickblox" is.
    for my $case (
        ['no quickblox', "$with_key server { location / {\n$handler; # here"],
        ['quickblox off', "$with_key quickblox chat; server { location / {\n"
            . "$handler; # here\nquickblox off;"],
        ['quickblox off above', "$with_key quickblox chat; server {\n"
            . "quickblox off; location / {\n$handler; # here"],
    ) {
        refused("$handler: $case->[0]", "$case->[1]\n}}", $handler,
            qr/has no application, write "quickblox name;" beside it/);
    }

    for my $other (grep { $_ ne $handler } @handlers) {
        refused("$handler and $other", $with_key
            . location("quickblox chat;\n$other;\n$handler; # here"),
            $handler, qr/has "$other" already, write a location for each/);
    }

    my $each = qr/another content handler.*write a location for each/;

    for my $other ('proxy_pass http://127.0.0.1:1;', 'stub_status;',
        'fastcgi_pass 127.0.0.1:1;')
    {
        my ($name) = $other =~ /(\w+)/;
        refused("$handler after $name", $with_key
            . location("quickblox chat;\n$other\n$handler; # here"),
            $handler, $each);
        refused("$handler before $name", $with_key
            . location("quickblox chat;\n$handler; # here\n$other"),
            $handler, $each);
    }

    refused("$handler and an if with proxy_pass", $with_key . location(
        "quickblox chat;\n$handler; # here\nif (\$arg_a) {\n"
        . "proxy_pass http://127.0.0.1:1; }"), $handler, $each);

    accepted("T40: $handler, and an if and a limit_except", $with_key
        . location("quickblox chat; $handler; if (\$arg_a) { set \$a 1; }"
            . ' limit_except POST { deny all; }'));

    accepted("T40: $handler below its application", $with_key
        . "quickblox chat; server { location / { $handler $parameter; } }");
}

for my $case (
    ['quickblox_login', 'auth_key', auth_key => undef],
    ['quickblox_login', 'auth_secret', auth_secret => undef],
    ['quickblox_login token', 'auth_secret', auth_secret => undef],
    ['quickblox_login token application', 'auth_key', auth_key => undef],
    ['quickblox_login', 'cookie_key', cookie_key => undef],
) {
    my ($handler, $missing, %change) = @$case;

    # "token" needs no cookie, and helps nothing but that.
    my $end = $missing eq 'cookie_key' ? ', or "quickblox_login token;"' : '';

    refused("$handler without $missing",
        application('chat', cookie_key => $key, %change)
        . location("quickblox chat;\n$handler; # here"), $missing,
        qr/"quickblox_login" in .* needs "$missing", write .*:\d+\Q$end\E\z/);
}

accepted("T40: $_ without cookie_key",
    application('chat') . location("quickblox chat; $_;"))
    for 'quickblox_login token', 'quickblox_login token application',
        'quickblox_logout', 'quickblox_check', 'quickblox_check token';

# A token that is not the user's own is handed to nobody.
for my $sources ('user', 'application', 'api_key', 'none', 'client user',
    'client cookie basic application', 'user_token none')
{
    my $last = $sources =~ s/.* //r;
    my $app = application('chat', cookie_key => $key, login => 'gateway',
        password => $canary . 'Password', api_key => $canary . 'Two');

    refused("quickblox_check token with $sources", $app
        . location('quickblox chat; quickblox_user $arg_a;'
            . "quickblox_session $sources;\nquickblox_check token; # here"),
        'quickblox_check', says("token of source \"$last\", which is not ",
            'the user\'s own: write other sources, or no "token"'));

    refused("quickblox_check token with $sources, inherited", $app
        . 'quickblox_user $arg_a;' . "quickblox_session $sources;"
        . location("quickblox_check token; # here\nquickblox chat;"),
        'quickblox_check', qr/token of source "$last"/);

    accepted("T40: quickblox_check with $sources", $app
        . location('quickblox chat; quickblox_user $arg_a;'
            . "quickblox_session $sources; quickblox_check;"));
}

accepted('T40: quickblox_check token with the user\'s own',
    application('chat', cookie_key => $key, api_key => $canary . 'Two')
    . location('quickblox chat; quickblox_user $arg_a; quickblox_check token;'
        . 'quickblox_session client basic cookie user_token;'));

# Any page could use such a cookie.
{
    my $app = application('chat', cookie_key => $key,
        cookie => 'session Secure SameSite=None Path=/');
    my $says = says('has "SameSite=None": write which pages may use it, ',
        '"quickblox_origin self;" or origins, for');

    for my $line ('quickblox_session client cookie', @handlers) {
        refused("SameSite=None and $line without quickblox_origin",
            $app . location("quickblox chat;\n$line; # here"),
            'quickblox_origin', $says);

        accepted("T40: SameSite=None and $line with $_", $app
            . 'quickblox_origin ' . $_ . ';'
            . location("quickblox chat;\n$line;"))
            for 'self', 'https://app.example.com';
    }

    # The cookie is set and cleared whatever the sources are.
    refused("SameSite=None and $_ without source cookie",
        $app . location("quickblox chat; quickblox_session client;\n"
            . "$_; # here"), 'quickblox_origin', $says)
        for @handlers;

    accepted('T40: SameSite=None where no cookie is used',
        $app . location('quickblox chat;'));
}


# Warnings

{
    my $open = $t->write('open', $canary . 'File');
    chmod 0644, $open;

    my ($ok, $output) = $t->test_config(application('chat',
        auth_secret => "file:$open"));

    ok $ok, 'T40: a secret file that everybody can read is accepted';
    is_deeply [$output =~ /\[warn\] \S+ (.*) in \S+nginx\.conf:\d+\n/g],
        ["\"auth_secret\": secret file \"$open\" can be read by everybody, "
            . '"chmod o-r" it'], 'T40: with a warning';
}

my $group = "upstream quickblox_api { server 127.0.0.1:1; keepalive 4; }\n";

for my $case (
    ['https', undef, 1],
    ['https', 'api.quickblox.com', 0],
    ['http', undef, 0],
) {
    my ($scheme, $host, $warns) = @$case;

    my ($ok, $output) = $t->test_config($group . application('chat',
        api => "$scheme://quickblox_api", api_host => $host));

    ok $ok, "T54: $scheme and a group, " . ($host // 'no api_host');

    my @warnings = $output =~ /\[warn\] \S+ (.*)/g;
    is @warnings, $warns, 'T54: warnings' or diag $output;
    like $warnings[0],
        qr/"api" .*"quickblox_api".*write "api_host .*;" in \S+\.conf:\d+/,
        'T54: which say what to write' if $warns;
}


# Good configurations

accepted('an application that nobody uses', application('chat'));

{
    my $open = $t->write('open-key', $hex);
    chmod 0644, $open;

    my ($ok, $output) = $t->test_config(application('chat',
        cookie_key => $open));

    ok $ok, 'T40: a key that everybody can read is accepted';
    like $output, qr/\[warn\] .*"cookie_key".*\Q$open\E.*"chmod o-r" it in /,
        'T40: with a warning';
}

accepted('every directive of an application', application('chat',
    %other,
    api => 'https://127.0.0.1:8443/prefix/',
    email => 'gateway@example.com',
    password => "file:$file",
    api_key => 'env:QUICKBLOX_API_KEY',
    on_behalf_of => '$arg_user',
    session_lifetime => '1h',
    ssl_protocols => 'TLSv1 TLSv1.1 TLSv1.2 TLSv1.3',
    ssl_trusted_certificate => '%%CA%%',
), env => {QUICKBLOX_API_KEY => $canary . 'Env'});

accepted('the API of QuickBlox, resolved at run time',
    "resolver 127.0.0.1;\n" . application('chat', api => undef));

accepted('one zone for two, the second gives its size',
    application('chat', zone => 'quickblox')
    . application('other', application_id => 93));

accepted('the smallest zone',
    application('chat', zone => 'quickblox 32k'));

accepted('an application below its first use', location(<<'END')
    quickblox chat;
    location /public/ { quickblox off; }
    location /other/ { quickblox other; quickblox_session client none; }
END
    . application('chat') . application('other'));

accepted('nothing at all', '');


# The configuration of the documentation, with secrets from a file and from
# the environment

my $api = $t->api(users => [['gateway', $canary . 'Password', 1]],
    applications => ["93:key93:${canary}Two"]);
my $backend = $t->backend;

my $secret = $t->write('auth_secret', "jyqGNhbGxkvBTgd\r\n");
my $example = <<'END';
quickblox_application chat {
    api              %%API%%;
    application_id   92;
    auth_key         wJHd4cQSxpQGWx5;
    auth_secret      file:%%DIR%%/auth_secret;
    login            gateway;
    password         env:QUICKBLOX_PASSWORD;
    zone             quickblox 10m;
}

server {
    listen 127.0.0.1:%%PORT_0%%;
    location /api/ {
        quickblox chat;                  # protect with this application
        quickblox_session client user;   # the client's session, or our own
        proxy_pass %%BACKEND%%;
    }
}
END
my $env = {QUICKBLOX_PASSWORD => $canary . 'Password'};

# What a request shows now: its status, and the calls since the last one.
sub shown {
    my $status = $t->get('/api/')->status;
    my $counts = $api->counts;
    $api->reset_calls;

    return join ' ', $status, map { "$_: $counts->{$_}" } sort keys %$counts;
}

{
    chmod 0600, $secret;
    my $nginx = $t->nginx($example, env => $env);

    is shown(), '200 POST /session.json: 1', 'secrets are read';
    is $backend->last_request('/api/')->header('QB-Token'),
        ($api->sessions)[0]{token}, 'and make a session';

    ok $nginx->reload, "env: survives a reload without nginx's \"env\"";
    is shown(), '200', 'and is the same: no login';

    # Typed where the variable is not set.
    {
        local $nginx->{env} = {QUICKBLOX_PASSWORD => undef};
        my @old = $nginx->workers;
        my ($ok, $said) = $nginx->test('-s', 'reload');
        ok $ok, 'env: "nginx -s" does without' or diag $said;
        $t->wait_for(sub {
            my %now = map { $_ => 1 } $nginx->workers;
            return %now && !grep { $now{$_} } @old;
        }, 'new workers');
        is shown(), '200', 'and nginx keeps what it has';
        ($ok, $said) = $nginx->test;
        like $said, qr/"QUICKBLOX_PASSWORD" is not set/,
            '"nginx -t" does not';
    }

    # Wrong now: the API says so.
    $t->write('auth_secret', "${canary}File\n");
    ok $nginx->reload, 'a secret file has changed';
    is shown(), '503 POST /session.json: 1', 'which is noticed at a reload';
    $nginx->wait_log(qr/unexpected signature, is "auth_secret" right\?/);

    $t->write('auth_secret', "jyqGNhbGxkvBTgd");
    ok $nginx->reload, 'and has changed back';
    is shown(), '200', 'to the session of that secret';

    $nginx->stop;
}

# What an origin is called by browsers, who leave out a scheme's own port.
{
    my $nginx = $t->nginx(application('chat') . <<'END');
server {
    listen 127.0.0.1:%%PORT_0%%;
    location /me {
        quickblox chat;
        quickblox_origin http://a.test:80 https://B.test:443 https://c.test:80;
        quickblox_check;
    }
}
END

    for my $case (
        ['http://a.test', 401], ['https://b.test', 401],
        ['https://c.test:80', 401], ['https://c.test', 403],
        ['http://a.test:443', 403], ['https://a.test', 403],
    ) {
        my ($origin, $status) = @$case;
        is $t->get('/me', headers => [['Origin', $origin]])->status, $status,
            "T51: $origin";
    }

    $nginx->stop;
}

{
    # Without a master nginx drops all variables that no "env" names from its
    # own environment when it starts.  (After a reload stock nginx serves
    # nothing in this mode, but must have read the configuration.)
    my $nginx = $t->nginx($example, env => $env, workers => 0,
        level => 'notice', main => 'master_process off;');

    is shown(), '200 POST /session.json: 1', 'a single process';

    for my $times (2, 3) {
        $nginx->signal('HUP');
        $t->wait_for(sub {
            my $read = () = $nginx->error_log =~ /using the "epoll"/g;
            $read == $times || $nginx->error_log =~ /\[emerg\]/;
        }, 'end of the reload');

        unlike $nginx->error_log, qr/\[emerg\]/, 'env: survives a reload';
    }
}

$t->done;
