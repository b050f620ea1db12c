# T06: however a path is written, the decision is that of the location which
# nginx chooses; "deny all" in the same place is the oracle.  T07: what a
# client says about its request in header fields changes nothing.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

# The same server twice for each setting of merge_slashes.
my $server = sub ($port, $merge, $protection) {
    return <<"END_OF_SERVER";
server {
    listen 127.0.0.1:%%PORT_$port%%;
    merge_slashes $merge;
    root %%DIR%%/files;

    location / {
        return 404;
    }
    location /public/ {
        proxy_pass %%BACKEND%%;
    }
    location /Protected/ {
        proxy_pass %%BACKEND%%;
    }
    location /protected/ {
        $protection
        proxy_pass %%BACKEND%%;
    }
    location = /exact {
        $protection
        proxy_pass %%BACKEND%%;
    }
    location ~ \\.secret\$ {
        $protection
        proxy_pass %%BACKEND%%;
    }
    location ~* ^/regex/ {
        $protection
        proxy_pass %%BACKEND%%;
    }
    location /rewritten/ {
        rewrite ^/rewritten/(.*) /protected/\$1;
    }
    location /out/ {
        $protection
        rewrite ^/out/(.*) /public/\$1;
    }
    location /protected/public/ {
        satisfy all;
        PUBLIC;
        proxy_pass %%BACKEND%%;
    }
}
END_OF_SERVER
};

my (%port, $servers);

for my $merge (qw(on off)) {
    for my $how (['quickblox', 'quickblox chat;', 'quickblox off'],
        ['oracle', 'deny all;', 'allow all'])
    {
        my ($name, $protection, $public) = @$how;
        my $port = keys %port;
        $port{"$merge $name"} = $t->port($port);
        $servers .= $server->($port, $merge, $protection)
            =~ s/PUBLIC/$public/r;
    }
}

$t->nginx(<<"END_OF_CONFIGURATION");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone quickblox 1m;
}

$servers
END_OF_CONFIGURATION

my $token = $api->session(user_id => 5);

my @slash = qw(/ // /// /./ /../ /x/../ /x/./../ %2f %2F //./ /.// /%2e/
    /%2e%2e/ %5c \\ /\\ ; /;/ /..;/ %3b %00 %252f /%252e%252e/ /.%2e/ /%2e.
    ..%2f ..%5c %c0%af %e2%88%95 %20 %09 + . .. ... /.../ ~ %7e * : :80
    /:80/ @ %23 %3f);

my @paths = (
    # what stands before, within and behind the names
    (map { ("${_}protected/a", "/protected${_}a", "/public${_}protected/a",
        "/protected${_}public/a") } @slash),
    (map { "/$_" } qw(Protected/a PROTECTED/a pRotected/a protecte%64/a
        %70rotected/a %70%72%6f%74%65%63%74%65%64/a protected protected/
        protected? protected/? protected/a? protected/a?b
        protected/a%23b protected/a%3fb protected.json
        protected/.json protected;a=b/a protected/;a=b
        exact exact/ exact/. exact/.. exact/x/.. exact? exact?a
        Exact exact%20 exact%00 exact%2f exact; exact;a exact.json exac%74
        a.secret a.SECRET a.secret/ a.secret/b a.secret? a.secre%74
        a.secret%20 a.secret%00 a.secret; a%2esecret public/a.secret
        public/a.secret/b regex/a REGEX/a reGex/a /regex/a %72egex/a regex
        rewritten/a rewritten/../public/a rewritten/..%2fpublic/a
        rewritten/%2e%2e/public/a rewritten// rewritten/a.secret
        out/a out/../protected/a out/..%2fprotected/a out/.
        protected/public/a protected/public/../a protected/public/..%2fa
        protected/public/%2e%2e/a protected/public/..;/a
        protected/public%2f../a protected/public// protected/public
        public/../protected/a public/..%2fprotected/a
        public/%2e%2e/protected/a public/..;/protected/a
        public/../../protected/a ../protected/a ../../protected/a
        public?/protected/a public/?/../protected/a public/?x=/protected/
        public/%3f/../protected/a
        public/a?QB-Token=x public/a?quickblox=off)),
    '/protected#', '/protected/a#b', '/exact#a', '/public/#/../protected/a',
    # whole URLs, and what is none
    (map { ("http://a$_", "HTTP://a$_", "http://b.test:81$_",
        "http://u:p\@a$_", "http://a.$_", "https://a$_", "//a$_") }
        '/protected/a', '/public/a', '/public/../protected/a'),
    'http://a', 'http://a?protected', 'http://protected/public/a',
    'protected/a', '*', '', '?', '?/protected/a', '#', '%', '%2',
    '/%zz/protected/a', '/protected/%', '/protected/%zz',
);

my %seen;
@paths = grep { !$seen{$_}++ } @paths;
cmp_ok scalar(@paths), '>=', 200, 'T06: ' . @paths . ' paths';

# Status of a request, on a connection that is kept as long as it lasts.
my %client;

sub status ($port, $path, @headers) {
    my $bytes = join "\r\n", "GET $path HTTP/1.1", 'Host: a.', @headers,
        '', '';

    for (1, 2) {
        my $client = $client{$port} //= $t->client(port => $port);
        my $res = $client->start(raw => $bytes)->finish;

        delete $client{$port} if !$res->complete
            || ($res->header('Connection') // '') eq 'close';

        return $res->status if $res->status;
    }

    return 0;
}

for my $merge (qw(on off)) {
    my ($ours, $oracle) = @port{"$merge quickblox", "$merge oracle"};
    my (%count, @differ, @hit, @changed);
    my $hits = 0;

    $backend->reset;

    for my $path (@paths) {
        my $told = status($oracle, $path);
        my $status = status($ours, $path);
        my $with = status($ours, $path, "QB-Token: $token");
        my $expected = $told == 403 ? 401 : $told;

        $count{$expected}++;
        push @differ, "$path: $status, $told" if $status != $expected;
        push @changed, "$path: $with, $told"
            if $with != ($told == 403 ? 200 : $told);

        # Whoever got a 200 was at the backend, and nobody else.
        $hits += grep { $_ == 200 } $told, $status, $with;
        my $seen = $backend->hits;
        push @hit, $path if $seen != $hits;
        $hits = $seen;
    }

    is "@differ", '', "T06: merge_slashes $merge: as with \"deny all\"";
    is "@changed", '', "T06: merge_slashes $merge: with a token";
    is "@hit", '', "T06: merge_slashes $merge: what reached the backend";
    cmp_ok $count{$_}, '>=', 20, "T06: merge_slashes $merge: some are $_"
        for 200, 400, 401, 404;
}

# What the backend is sent is what the client wrote.
{
    $backend->reset;
    status($port{'on quickblox'}, '/protected//a/%2e%2e/b;c?d=/../e',
        "QB-Token: $token");
    is $backend->last_request->{uri}, '/protected//a/%2e%2e/b;c?d=/../e',
        'T06: a path is handed on as it was written';
}


# T07: nothing that a client says of its request is believed

my @said = (
    (map { my $value = $_; map { "$_: $value" }
        qw(X-Original-URL X-Original-URI X-Rewrite-URL X-Forwarded-Uri
            X-Forwarded-Path X-Forwarded-Prefix X-Auth-Request-Redirect
            Referer X-Accel-Redirect X-Sendfile) }
        '/public/a', '/', '//public/a', 'http://a/public/a'),
    (map { my $name = $_; map { "$name: $_" } qw(OPTIONS HEAD PURGE) }
        qw(X-HTTP-Method-Override X-HTTP-Method X-Method-Override
            X-Forwarded-Method X-Original-Method)),
    (map { my $name = $_; map { "$name: $_" } '127.0.0.1', '::1',
        '10.0.0.1', 'unix:' }
        qw(X-Forwarded-For X-Real-IP Forwarded True-Client-IP Client-IP)),
    (map { "X-Forwarded-Host: $_" } 'localhost', 'api.quickblox.com'),
    (map { "User-Agent: $_" } 'kube-probe/1.30', 'GoogleHC/1.0',
        'ELB-HealthChecker/2.0', 'nginx'),
    (map { "$_: 5" } qw(X-User X-User-Id X-Remote-User Remote-User
        X-Auth-Request-User X-Authenticated-User QB-User QB-User-Id
        QB-Application-Id X-Quickblox-User-Id Quickblox-Status)),
    'X-Quickblox-Token: canary', 'Quickblox-Token: canary',
    'Token: canary', 'X-Token: canary', 'X-QB-Token: canary',
    'Quickblox: off', 'X-Health-Check: 1', 'Sec-Purpose: prefetch',
    'Access-Control-Request-Method: GET', 'Upgrade: websocket',
    'Content-Type: application/grpc-not', 'X-Subrequest: 1',
    'Cookie: QB-Token=canary; quickblox=canary', 'Max-Forwards: 0',
    'Range: bytes=0-1', 'If-None-Match: *', 'Cache-Control: only-if-cached',
    'Via: 1.1 gateway', 'Expect: 200-ok',
);

$backend->reset;

for my $said (@said) {
    my $port = $port{'on quickblox'};
    my $grpc = $said =~ /grpc/;

    is status($port, '/protected/a', $said), $grpc ? 200 : 401,
        "T07: $said: no token";
}

is $backend->hits, 0, 'T07: none of them got further';

for my $said (@said) {
    is status($port{'on quickblox'}, '/protected/a', $said,
        "QB-Token: $token"), 200, "T07: $said: with one";
}

is $backend->hits, scalar @said, 'T07: all of them got further';

$t->done;
