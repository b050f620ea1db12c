# T59: the sealed cookie never reaches an upstream where "quickblox" applies,
# whatever the sources and the protocol, and all other cookies do, byte for
# byte, in every spelling of the header; where it does not apply, an upstream
# sees what the client has sent.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use IO::Select ();
use IO::Socket::INET ();
use MIME::Base64 qw(encode_base64);
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

chmod 0600, $t->write('key', 'c5' x 32);

my @sources = ('client', 'basic', 'cookie', 'user', 'user_token',
    'application', 'api_key', 'none', 'client cookie user', 'client none');

# How requests come to other upstreams than HTTP's.
my %pass = (
    fastcgi => 'fastcgi_pass 127.0.0.1:%%PORT_sink%%;',
    uwsgi => 'uwsgi_pass 127.0.0.1:%%PORT_sink%%;',
    scgi => 'scgi_pass 127.0.0.1:%%PORT_sink%%;',
    grpc => 'grpc_pass grpc://127.0.0.1:%%PORT_grpc%%;',
    # As many have it, and what evaluates it before.
    set => 'proxy_set_header Cookie $http_cookie;'
        . 'proxy_pass %%BACKEND%%;',
    early => 'if ($http_cookie ~ nothing) { return 500; }'
        . 'proxy_set_header Cookie $http_cookie;'
        . 'proxy_set_header X-Own "$cookie_qb";'
        . 'proxy_pass %%BACKEND%%;',
    own => 'if ($cookie_qb = nothing) { return 500; }'
        . 'proxy_set_header X-Own "$cookie_qb";'
        . 'proxy_pass %%BACKEND%%;',
);

my $locations = '';

for my $source (@sources) {
    my $path = $source =~ tr/ /-/r;

    $locations .= <<"END";
    location /$path/ {
        quickblox_session $source;
        proxy_pass %%BACKEND%%;
END
    $locations .= <<"END" for sort keys %pass;
        location /$path/$_/ {
            quickblox_session $source;
            $pass{$_}
        }
END
    $locations .= "    }\n";
}

# From a protected location to another one.
my %way = (
    error_page => 'proxy_intercept_errors on; error_page 404 = TARGET;',
    accel => '',
    try_files => 'try_files /nowhere TARGET;',
    refused => 'quickblox_require any $arg_no; error_page 403 = TARGET;',
);
my %target = (
    open => 'quickblox off;',
    same => 'quickblox chat; quickblox_session none;',
    other => 'quickblox other; quickblox_session none;',
);

for my $target (sort keys %target) {
    $locations .= <<"END";
    location /target/$target {
        $target{$target}
        proxy_set_header X-Own "\$cookie_qb";
        proxy_pass %%BACKEND%%;
    }
    location \@$target {
        $target{$target}
        rewrite ^ /named/$target break;
        proxy_set_header X-Own "\$cookie_qb";
        proxy_pass %%BACKEND%%;
    }
END

    for my $way (sort keys %way) {
        for my $named (0, 1) {
            my $name = $named ? "\@$target" : "/target/$target";
            my $directives = $way{$way} =~ s/TARGET/$name/gr;
            $locations .= <<"END";
    location /from/$way/$named/$target {
        quickblox_session cookie;
        $directives
        proxy_set_header X-Own "\$cookie_qb";
        proxy_pass %%BACKEND%%;
    }
END
        }
    }
}

my $server = <<"END";
    quickblox chat;
    quickblox_user 5;
    quickblox_require any;
    quickblox_application_access write;
    large_client_header_buffers 4 64k;

$locations

    location /limited/ {
        quickblox off;
        limit_except GET { quickblox chat; quickblox_session cookie; }
        proxy_pass %%BACKEND%%;
    }
    location /limited/none/ {
        quickblox_session none;
        limit_except GET { quickblox off; }
        proxy_pass %%BACKEND%%;
    }
    location /limited/other/ {
        quickblox_session none;
        limit_except GET { quickblox other; quickblox_session none; }
        proxy_pass %%BACKEND%%;
    }
    location /open/ {
        quickblox off;
        proxy_pass %%BACKEND%%;
    }
    location /if/ {
        quickblox_session none;
        if (\$arg_a) {
            proxy_pass %%BACKEND%%;
        }
        proxy_pass %%BACKEND%%;
    }
    location /satisfy/ {
        quickblox_session cookie;
        satisfy any;
        allow all;
        proxy_pass %%BACKEND%%;
    }
    location /preflight/ {
        quickblox_session cookie;
        quickblox_preflight pass;
        proxy_pass %%BACKEND%%;
    }

    # Subrequests
    location /mirror/open {
        quickblox_session cookie;
        mirror /side/open;
        proxy_pass %%BACKEND%%;
    }
    location /mirror/same {
        quickblox_session cookie;
        mirror /side/same;
        proxy_pass %%BACKEND%%;
    }
    location /auth/open {
        quickblox_session cookie;
        auth_request /side/open;
        proxy_set_header Cookie \$http_cookie;
        proxy_pass %%BACKEND%%;
    }
    location /auth/same {
        quickblox_session cookie;
        auth_request /side/same;
        proxy_set_header Cookie \$http_cookie;
        proxy_pass %%BACKEND%%;
    }
    location /page/ {
        quickblox_session cookie;
        ssi on;
        ssi_types *;
        proxy_pass %%BACKEND%%;
    }
    location /side/open {
        internal;
        quickblox off;
        proxy_set_header X-Own \$cookie_qb;
        proxy_pass %%BACKEND%%;
    }
    location /side/same {
        internal;
        quickblox_session cookie;
        proxy_set_header X-Own \$cookie_qb;
        proxy_pass %%BACKEND%%;
    }

    location = /login { quickblox_login; }
END

$t->nginx(<<"END");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    zone quickblox 1m;
    cookie qb Path=/;
    cookie_key %%DIR%%/key;
}

# Without a key it has the name of a cookie, too.
quickblox_application other {
    api %%API%%;
    application_id 93;
    zone quickblox;
}

keepalive_requests 100000;
ignore_invalid_headers off;
underscores_in_headers on;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;
$server
}

# What gRPC has brought, for the backend to record.
server {
    listen 127.0.0.1:%%PORT_grpc%% http2;
    location / {
        proxy_pass %%BACKEND%%;
    }
}
END

my $bob = $api->session(user_id => 5);
my $client = $t->client;

my ($sealed) = $client->request(path => '/login', json => {token => $bob})
    ->header('Set-Cookie') =~ /^qb=([^;]+)/;
$t->secret($sealed);

my %credential = (
    client => ['QB-Token', $bob],
    basic => ['Authorization', 'Basic '
        . encode_base64('bob:Canary-Bob-Pw', '')],
);

sub list ($headers) {
    return [map { $_->[1] } grep { lc $_->[0] eq 'cookie' } @$headers];
}

# The Cookie headers of a response's request, or of a recorded one.
sub got ($res) {
    return [$res->status . ' ' . $res->body] if $res->status != 200;
    return list($res->json->{headers});
}

sub recorded ($path) {
    my $request = $backend->last_request($path);

    return $request ? list($request->{headers}) : ['not seen'];
}

sub cookies (@values) { return map { ['Cookie', $_] } @values }


# Every spelling: what is sent, and what remains

my $C = "qb=$sealed";
my @spellings = (
    [[$C], []],
    [["$C;"], []],
    [[";$C;"], []],
    [["$C; $C"], []],
    [["qb="], []],
    [["qb=x; qb=; qb = y"], []],
    [["a=b; $C"], ['a=b']],
    [["$C; a=b"], ['a=b']],
    [["a=b; $C; c=d"], ['a=b; c=d']],
    [["a=b;$C;c=d"], ['a=b;c=d']],
    [["a=b ;  qb = $sealed  ;  c=d"], ['a=b ;  c=d']],
    [["a=b;\tqb\t=\t$sealed\t;\tc=d"], ["a=b;\tc=d"]],
    [["$C; a=b; $C; c=d; $C"], ['a=b; c=d']],
    [["a=b; qb=\"$sealed\"; c=d"], ['a=b; c=d']],
    [["a=b; qb=$sealed,e=f; c=d"], ['a=b; c=d']],
    [["a=b; qb=$sealed=; c=d"], ['a=b; c=d']],
    [["a=b;  ; ;$C; =x; c"], ['a=b;  ; ; =x; c']],
    [["a=\"x y\"; $C; b=%20,; c=\xff\x01\xc3\xa9"],
        ["a=\"x y\"; b=%20,; c=\xff\x01\xc3\xa9"]],
    [['a=b', $C, 'c=d'], ['a=b', 'c=d']],
    [["a=b; $C", 'c=d'], ['a=b', 'c=d']],
    [['a=b', "c=d; $C", $C], ['a=b', 'c=d']],
    [[$C, $C], []],
    # What is not the cookie stays as it is.
    [['a=b; c=d'], ['a=b; c=d']],
    [['qb'], ['qb']],
    [["qbx=$sealed; xqb=$sealed; QB=$sealed"],
        ["qbx=$sealed; xqb=$sealed; QB=$sealed"]],
    [['a=qb=x; b="qb=y"'], ['a=qb=x; b="qb=y"']],
    [[' ; ;; '], ['; ;;']],
    [['q b=x; q=b'], ['q b=x; q=b']],
    [['__Host-quickblox=x; a=b'], ['__Host-quickblox=x; a=b']],
);

for my $case (@spellings) {
    my ($sent, $remains) = @$case;
    my $name = 'T59: ' . join ' | ', map { s/\Q$sealed/V/gr
        =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger } @$sent;

    for my $header (qw(Cookie cookie COOKIE)) {
        my $res = $client->get('/none/', headers => [['X-First', 1],
            (map { [$header, $_] } @$sent), ['X-Last', 'last']]);

        is_deeply got($res), $remains, "$name ($header)";
        is_deeply [grep { /^(?:1|last)$/ } map { $_->[1] }
            @{$res->json->{headers}}], [1, 'last'], 'and other headers'
            if $header eq 'cookie';
    }

    # More than the 20 headers of a list's first part.
    is_deeply got($client->get('/none/', headers => [
        (map { ["X-$_", $_] } 1 .. 18), (map { ['Cookie', $_],
            map { ["X-Between-$_", $_] } 1 .. 20 } @$sent)])), $remains,
        "$name, among many headers";

    # HTTP/2: crumbs are put together.
    is_deeply got($t->h2('/none/', port => $t->port(1),
        headers => [cookies(@$sent)])),
        [@$remains ? join('; ', @$remains) : ()], "$name, HTTP/2"
        if "@$sent" !~ /^ |[\x01\xff\t]|;$/;

    is_deeply got($client->get('/open/', headers => [cookies(@$sent)])),
        [map { s/^ +| +$//gr } @$sent], "$name, not protected: as it was";
}

is_deeply got($client->get('/none/', headers => [
    map { ['Cookie', "a$_=b; $C; c$_=d"] } 1 .. 100])),
    [map { "a$_=b; c$_=d" } 1 .. 100], 'T59: a hundred headers';

is_deeply got($client->get('/none/', headers => [
    map { ['Cookie', $_ % 2 ? $C : "a$_=b"] } 1 .. 100])),
    [map { "a$_=b" } grep { $_ % 2 == 0 } 1 .. 100],
    'T59: a hundred, half of them gone';


# Sources and protocols

# Reads what nginx sends to an application server; it is never answered.
my $sink = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16,
    LocalPort => $t->port('sink'), ReuseAddr => 1) or die "sink: $@";

sub sunk ($path, @headers) {
    my $under_way = $t->start(path => $path, headers => [@headers,
        ['X-Last', 'the-last-of-all']]);
    my $bytes = '';

    if (IO::Select->new($sink)->can_read(10)) {
        my $socket = $sink->accept;
        while (IO::Select->new($socket)->can_read(10)) {
            sysread $socket, $bytes, 65536, length $bytes or last;
            last if $bytes =~ /the-last-of-all/;
        }
        close $socket;
    }

    $under_way->finish;

    return $bytes;
}

for my $source (@sources) {
    my $path = '/' . ($source =~ tr/ /-/r);
    my @sent = (['Cookie', "first=1; $C; last=2"],
        $credential{$source} // ());

    for my $method (qw(GET POST)) {
        is_deeply got($client->request(method => $method, path => "$path/",
            headers => \@sent)), ['first=1; last=2'],
            "T59: source $source, proxy, $method";
    }

    is_deeply got($t->h2("$path/", port => $t->port(1), headers => \@sent)),
        ['first=1; last=2'], "T59: source $source, HTTP/2";

    for my $how (qw(fastcgi uwsgi scgi)) {
        my $bytes = sunk("$path/$how/", @sent);

        like $bytes, qr/HTTP_COOKIE.{0,4}first=1; last=2/s,
            "T59: source $source, $how: the others";
        unlike $bytes, qr/qb=|\Q$sealed/, "T59: source $source, $how";
    }

    my $res = $client->get("$path/grpc/", headers => \@sent);
    is_deeply got($res), ['first=1; last=2'], "T59: source $source, grpc";

    for my $how (qw(set early own)) {
        $res = $client->get("$path/$how/", headers => \@sent);
        is_deeply got($res), ['first=1; last=2'],
            "T59: source $source, \$http_cookie, $how";
        unlike $res->body, qr/\Q$sealed/,
            "T59: source $source, \$cookie_qb, $how";

        $res = $client->get("$path/$how/",
            headers => [@sent, ['Cookie', 'more=3']]);
        like join('; ', @{got($res)}), qr/^first=1; last=2; more=3$/,
            "T59: source $source, \$http_cookie of two, $how";
    }
}

# To the byte, which HTTP does not show.
for my $case (["$C; a=b; c=d"], ["a=b; $C; c=d"], ["a=b; c=d; $C"]) {
    like sunk('/none/scgi/', cookies(@$case)),
        qr/\0HTTP_COOKIE\0a=b; c=d\0/, 'T59: no blank of it is left';
}


# limit_except, "if", satisfy, preflight

my @sent = (['Cookie', "first=1; $C; last=2"]);
my $without = ['first=1; last=2'];
my $as_sent = ["first=1; $C; last=2"];

for my $case (
    [POST => '/limited/', $without],
    [GET => '/limited/', $without],
    [POST => '/limited/none/', $as_sent],
    [GET => '/limited/none/', $without],
    [GET => '/limited/other/', $without],
    [GET => '/if/', $without],
    [GET => '/if/?a=1', $without],
    [GET => '/satisfy/', $without],
    [GET => '/open/', $as_sent],
) {
    my ($method, $path, $expected) = @$case;
    is_deeply got($client->request(method => $method, path => $path,
        headers => \@sent)), $expected, "T59: $method $path";
}

# No access phase, and no session.
is_deeply got($client->request(method => 'OPTIONS', path => '/preflight/',
    headers => [@sent, ['Origin', 'https://a.test'],
        ['Access-Control-Request-Method', 'PUT']])), $without,
    'T59: a preflight that passes';
is_deeply got($client->get('/satisfy/', headers => [
    ['Cookie', 'first=1; qb=x; last=2']])), $without,
    'T59: granted by another module, a cookie that does not open';


# Redirects inside nginx

# What came to the backend last, by its path.
for my $target (sort keys %target) {
    my $expected = $target eq 'same' ? $without : $as_sent;

    for my $way (sort keys %way) {
        for my $named (0, 1) {
            my $path = "/from/$way/$named/$target";
            my $to = $named ? "/named/$target" : "/target/$target";

            $backend->reset;
            $backend->answer($path, status => 404) if $way eq 'error_page';
            $backend->answer($path, headers => [['X-Accel-Redirect',
                $named ? "\@$target" : $to]]) if $way eq 'accel';

            is $client->get($path, headers => \@sent)->status, 200,
                "T59: $way to $to";
            is_deeply recorded($path), $without,
                "T59: $way: none in the first location"
                if $way =~ /error_page|accel/;
            is_deeply recorded($to), $expected,
                "T59: $way to $to: " . ($target eq 'same' ? 'none there'
                    : 'as the client sent it');
            is $backend->last_request($to)->header('X-Own'),
                $target eq 'same' ? undef : $sealed,
                "T59: $way to $to: and so is \$cookie_qb";
        }
    }
}

$backend->heal;


# Subrequests

for my $case (
    # the location, where the subrequest goes to, what that sees
    ['mirror', 'open', $as_sent],
    ['mirror', 'same', $without],
    ['auth', 'open', $as_sent],
    ['auth', 'same', $without],
    ['page', 'open', $as_sent],
    ['page', 'same', $without],
) {
    my ($how, $to, $expected) = @$case;
    my $path = "/$how/$to";

    $backend->reset;
    $backend->answer($path, body => "<!--#include virtual=\"/side/$to\" -->",
        headers => [['Content-Type', 'text/html']]) if $how eq 'page';

    is $client->get($path, headers => \@sent)->status, 200,
        "T59: $how, a subrequest to $to";
    $backend->wait_hits("/side/$to");
    is_deeply recorded("/side/$to"), $expected,
        "T59: $how: a subrequest to $to sees "
            . ($to eq 'open' ? 'what the client sent' : 'none');
    is_deeply recorded($path), $without, "T59: $how: and the request none";
}

$t->done;
