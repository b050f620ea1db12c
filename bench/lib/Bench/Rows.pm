package Bench::Rows;

# What "make bench" compares.  A row is {name, of (the name of its nginx or
# program), reference (the row that it is a ratio to), most (the bound)} and
# what Bench::load_for() takes: port, path, paths, tokens, header, refused.
# All have one location, as to find one of several costs something, too.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Carp qw(croak);

my $SHARED = 1_000;
my $HEADER = 'QB-Token: %';
my $LITERAL = qq{proxy_set_header QB-Token "$Bench::TOKEN";};

# Starts everything; returns the rows.  sessions: in the large zone.
sub start ($bench, %opt) {
    return (
        literal($bench),
        gateway($bench),
        sessions($bench, $opt{sessions}),
        workers($bench),
        auth_request($bench),
        lua($bench),
        njs($bench),
        haproxy($bench),
    );
}

sub literal ($bench) {
    for my $name (qw(literal again)) {
        $bench->nginx($name, Bench::upstreams()
            . Bench::server($name, Bench::location('/', $LITERAL)),
            module => 0);
    }

    $bench->nginx('floor', Bench::upstreams()
        . Bench::server('floor', Bench::location('/', 'floor on;')),
        module => $bench->built('floor.so'));

    return (
        {name => 'literal', of => 'literal'},
        {name => 'literal, again', of => 'again', reference => 'literal',
            most => 1.01},
        {name => 'literal, a token is sent', of => 'literal',
            header => $HEADER, reference => 'literal'},
        {name => 'literal, 1,000 tokens are sent', of => 'literal',
            header => $HEADER, tokens => $SHARED, reference => 'literal'},
        {name => 'literal, answer of 404', of => 'literal',
            path => '/missing', refused => 1, reference => 'literal'},
        {name => 'floor: a module pushes a header', of => 'floor',
            reference => 'literal'},
    );
}

# A zone for each kind of session, so that none is in another's way.
sub gateway ($bench) {
    my $key = $bench->t->write(key => '0123456789abcdef' x 4);
    chmod 0600, $key;

    my $chat = $bench->application(chat => 'quickblox 10m',
        'cache_valid 2h;', "cookie_key $key;",
        'cookie qb "Path=/; HttpOnly";');

    my $protected = sub ($source) {
        return Bench::server($source, Bench::location('/', 'quickblox chat;',
            "quickblox_session $source;"));
    };

    $bench->nginx(gateway => Bench::upstreams() . $chat
        . Bench::server(off => Bench::location('/', $LITERAL))
        . $protected->('user') . $protected->('client')
        . $protected->('cookie')
        . Bench::server(login => "location / {\nquickblox chat;\n"
            . "quickblox_login;\n}"));

    my $login = $bench->t->post('/', undef, port => $bench->port('login'),
        json => {token => $Bench::TOKEN});
    my ($cookie) = ($login->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/
        or croak 'no cookie: ' . $login->raw;
    $cookie = "Cookie: $cookie";

    my $at = sub ($port) { return (of => 'gateway', port => $port) };

    return (
        {name => 'location not protected', $at->('off'),
            reference => 'literal', most => 1.005},
        {name => "gateway's user", $at->('user'),
            reference => 'literal', most => 1.02},
        {name => "gateway's user, answer of 404", $at->('user'),
            path => '/missing', refused => 1, most => 1.02,
            reference => 'literal, answer of 404'},
        {name => "client's token", $at->('client'),
            header => $HEADER, most => 1.03,
            reference => 'literal, a token is sent'},
        {name => "client's token, 1,000 of them", $at->('client'),
            header => $HEADER, tokens => $SHARED, most => 1.03,
            reference => 'literal, 1,000 tokens are sent'},
        {name => 'literal, a cookie is sent', of => 'literal',
            header => $cookie, reference => 'literal'},
        {name => 'sealed cookie', $at->('cookie'),
            header => $cookie, most => 1.10,
            reference => 'literal, a cookie is sent'},
    );
}

# Kilobytes: 96 bytes for each session, but for a handful.
sub zone_size ($sessions) {
    my $size = int $sessions * 96 / 1024;

    return $size < 256 ? 256 : $size;
}

# A zone of that size; /fill asks nobody but the API.
sub sessions ($bench, $sessions) {
    my $size = zone_size($sessions);

    $bench->nginx(sessions => Bench::upstreams()
        . $bench->application(chat => "quickblox ${size}k",
            'cache_valid 2h;')
        . Bench::server(sessions =>
            Bench::location('/', 'quickblox chat;'),
            "location /fill {\nquickblox chat;\nempty_gif;\n}"));

    (my $number = $sessions) =~ s/(?<=\d)(?=(?:\d{3})+$)/,/g;

    return {name => "client's token, $number of them", of => 'sessions',
        header => $HEADER, tokens => $sessions, most => 1.03,
        reference => "client's token, 1,000 of them"};
}

# Four workers, on all cores: four locations with a zone each, or with one.
sub workers ($bench) {
    for my $zones (1, 4) {
        my $name = "zones_$zones";

        $bench->nginx($name, Bench::upstreams()
            . join('', map { my $n = $_ % $zones; $bench->application("a$_",
                $n == $_ ? "z$n 10m" : "z$n", 'cache_valid 2h;') } 0 .. 3)
            . Bench::server($name, map { Bench::location("/$_",
                "quickblox a$_;") } 0 .. 3) =~ s/backlog=\d+/reuseport/r,
            workers => 4, core => Bench::all_cores());
    }

    my @load = (paths => 4, tokens => $SHARED, header => $HEADER);

    return (
        {name => 'four workers, four zones', of => 'zones_4', @load},
        {name => 'four workers, one zone', of => 'zones_1', @load,
            most => 1.05, reference => 'four workers, four zones'},
    );
}


# Peers: of nginx itself

sub auth_request ($bench) {
    my $protected = Bench::location('/', 'auth_request /auth;', $LITERAL);

    my $ask = <<'END';
    internal;
    proxy_pass http://api/session.json;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    proxy_set_header Connection "";
END

    my $cache = <<'END';
    proxy_cache auth;
    proxy_cache_key $http_qb_token;
    proxy_cache_valid 200 2h;
END

    my %auth = (
        auth_local => "    internal;\n    return 204;\n",
        auth_cache => $ask . $cache,
        auth_ask => $ask,
    );

    for my $name (sort keys %auth) {
        $bench->nginx($name, Bench::upstreams()
            . ($name eq 'auth_cache' ? 'proxy_cache_path %%DIR%%/cache'
                . " keys_zone=auth:10m;\n" : '')
            . Bench::server($name, $protected,
                "location = /auth {\n$auth{$name}}"),
            module => 0);
    }

    my @client = (header => $HEADER,
        reference => 'literal, a token is sent');

    return (
        {name => 'auth_request, a local 204', of => 'auth_local',
            reference => 'literal'},
        {name => 'auth_request with proxy_cache', of => 'auth_cache', @client},
        {name => 'auth_request, asking each time', of => 'auth_ask', @client},
    );
}

sub lua ($bench) {
    return if !$bench->has('lua');

    my $init = <<"END";
lua_shared_dict sessions 10m;
init_by_lua_block {
    ngx.shared.sessions:set("gateway", "$Bench::TOKEN")
    for i = 1, $SHARED do
        ngx.shared.sessions:set(string.format("%040d", i), 7)
    end
}
END

    $bench->nginx(lua => Bench::upstreams() . $init
        . Bench::server(lua => Bench::location('/', 'access_by_lua_block {',
            '    local token = ngx.shared.sessions:get("gateway")',
            '    if not token then return ngx.exit(503) end',
            '    ngx.req.set_header("QB-Token", token)',
            '}'))
        . Bench::server(lua_client => Bench::location('/',
            'access_by_lua_block {',
            '    local token = ngx.var.http_qb_token',
            '    if not token or not ngx.shared.sessions:get(token) then',
            '        return ngx.exit(401)',
            '    end',
            '    ngx.req.set_header("QB-Token", token)',
            '}')),
        module => 0, main => $bench->load('lua'));

    return (
        {name => "Lua, gateway's session", of => 'lua',
            reference => 'literal'},
        {name => "Lua, client's token, 1,000 of them", of => 'lua',
            port => 'lua_client', header => $HEADER, tokens => $SHARED,
            reference => 'literal, 1,000 tokens are sent'},
    );
}

# It has no dictionary that is shared, and its globals are made for each
# request: there is no place for clients' sessions.
sub njs ($bench) {
    return if !$bench->has('njs');

    my $script = $bench->t->write('session.js', <<"END");
function token() {
    return '$Bench::TOKEN';
}

export default {token};
END

    $bench->nginx(njs => Bench::upstreams()
        . "js_import main from $script;\njs_set \$token main.token;\n"
        . Bench::server(njs =>
            Bench::location('/', 'proxy_set_header QB-Token $token;')),
        module => 0, main => $bench->load('njs'));

    return {name => "njs, gateway's session", of => 'njs',
        reference => 'literal'};
}

sub haproxy ($bench) {
    return if !grep { -x "$_/haproxy" } '/usr/sbin', '/usr/bin';

    my $map = $bench->t->write(map => join '', "gateway $Bench::TOKEN\n",
        map { sprintf "%040d 7\n", $_ } 1 .. $SHARED);

    my %rule = (
        haproxy_literal => "http-request set-header QB-Token $Bench::TOKEN",
        haproxy_user => 'http-request set-header QB-Token '
            . "%[str(gateway),map($map)]",
        haproxy_client => 'http-request deny deny_status 401 unless '
            . "{ req.hdr(QB-Token),map($map) -m found }",
    );

    my ($backend) = $bench->port('backend');

    for my $name (sort keys %rule) {
        my $port = $bench->port($name);

        my $file = $bench->t->write("$name.cfg", <<"END");
global
    nbthread 1
    maxconn 1000

defaults
    mode http
    timeout client 1h
    timeout server 1h
    timeout connect 5s
    http-reuse always

frontend in
    bind 127.0.0.1:$port
    $rule{$name}
    default_backend out

backend out
    server backend 127.0.0.1:$backend
END
        $bench->program($name, $port, Bench::under(Bench::gateway_core()),
            'haproxy', '-db', '-f', $file);
    }

    return (
        {name => 'HAProxy, literal', of => 'haproxy_literal',
            reference => 'literal'},
        {name => "HAProxy, map, gateway's session", of => 'haproxy_user',
            reference => 'HAProxy, literal'},
        {name => "HAProxy, map, client's token, 1,000 of them",
            of => 'haproxy_client', header => $HEADER, tokens => $SHARED,
            reference => 'HAProxy, literal'},
    );
}

1;
