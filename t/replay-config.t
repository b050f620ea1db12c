# The replay amid the rest of a configuration: rewrites, variables and named
# locations, from which the second request must not differ from the first;
# mirror, auth_request, limits and filters, which must not run twice; and
# proxy_cache, which must never keep an expired response.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;

my @USERS = 0 .. 6;

my $api = $t->api(users => [
    ['bob', 'Canary-Bob-Pw', 5], ['alice', 'Canary-Alice-Pw', 6],
    map { ["gateway$_", "Canary-Gateway-Pw-$_", 100 + $_] } @USERS
]);
my $backend = $t->backend(check => $api, keep_body => 1000);
my $side = $t->backend(keep_body => 1000);

my $applications = join "\n", map { <<"END" } @USERS;
quickblox_application app$_ {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway$_;
    password Canary-Gateway-Pw-$_;
    zone quickblox 1m;
}
END

# T46: configuration, what is asked for, what the backend is to see (twice)
# and perhaps what else was asked of it before, once.
my @rewritten = (
    ['rewrite break, a prefix', '/break/a?b=c', '/v1/break/a?b=c',
        'location /break/ { rewrite ^ /v1$uri break; PASS }'],
    ['rewrite break, strips', '/s/s/a', '/s/a',
        'location /s/ { rewrite ^/s(/.*)$ $1 break; PASS }'],
    ['rewrite break, arguments', '/arg/a?b=c', '/arg/a?x=1&b=c',
        'location /arg/ { rewrite ^ $uri?x=1 break; PASS }'],
    ['set $args', '/args/a?b=c', '/args/a?b=c&x=1',
        'location /args/ { set $args $args&x=1; PASS }'],
    ['set of itself', '/set/a', '/set/ax',
        'location /set/ { set $end "${end}x"; '
            . 'proxy_pass %%BACKEND%%$uri$end; }'],
    ['if with proxy_pass', '/if/a?to=b', '/if/a?to=b',
        'location /if/ { if ($arg_to) { PASS } SIDE }'],
    ['if with set and rewrite', '/if-set/a?to=b', '/b/if-set/a?to=b',
        'location /if-set/ { if ($arg_to) { set $to "$to$arg_to"; '
            . 'rewrite ^ /$to$uri break; PASS } return 404; }'],
    ['rewrite last', '/last/a?b', '/last/target/last/a?b',
        'location /last/ { rewrite ^ /last/target$uri last; }'
            . 'location /last/target/ { PASS }'],
    ['rewrite of the server', '/srv/a', '/srv/b/srv/a',
        'location /srv/b/ { PASS }'],
    ['try_files', '/try/a?b', '/try/a?b',
        'location /try/ { root /nonexistent; try_files $uri @try; }'
            . 'location @try { PASS }'],
    ['try_files, rewritten there', '/try-re/a', '/t/try-re/a',
        'location /try-re/ { root /nonexistent; try_files $uri @try-re; }'
            . 'location @try-re { rewrite ^ /t$uri break; PASS }'],
    ['error_page, a named location', '/named/a?b', '/named/a?b',
        'location /named/ { error_page 404 = @named; '
            . 'proxy_intercept_errors on; SIDE }'
            . 'location @named { PASS }', {status => 404}],
    ['error_page, a named location rewritten', '/name-re/a?b',
        '/n/name-re/a?b',
        'location /name-re/ { error_page 404 = @name-re; '
            . 'proxy_intercept_errors on; SIDE }'
            . 'location @name-re { rewrite ^ /n$uri break; PASS }',
        {status => 404}],
    ['X-Accel-Redirect', '/accel/a', '/accel-target/b?c',
        'location /accel/ { SIDE }'
            . 'location /accel-target/ { internal; PASS }',
        {headers => [['X-Accel-Redirect', '/accel-target/b?c']]}],
    ['proxy_pass with a path', '/path/a?b', '/base/a?b',
        'location /path/ { proxy_pass %%BACKEND%%/base/; }'],
    ['proxy_pass with variables', '/var/a?b', '/v/var/a?b',
        'location /var/ { set $to "${to}%%BACKEND%%/v"; '
            . 'proxy_pass $to$request_uri; }'],
    ['captures', '/cap/a?b', '/captured/a?b',
        'location ~ ^/cap/(.*) { '
            . 'proxy_pass %%BACKEND%%/captured/$1$is_args$args; }'],
    ['captures, and others meanwhile', '/cap-cookie/a?b', '/captured/a?b',
        'location ~ ^/cap-cookie/(.*) { '
            . 'proxy_cookie_path ~^(.*)$ /cookie$1; '
            . 'proxy_pass %%BACKEND%%/captured/$1$is_args$args; }'],
    ['a named capture', '/cap-name/a?b', '/captured/a?b',
        'location ~ ^/cap-name/(?<rest>.*) { '
            . 'proxy_cookie_path ~^(.*)$ /cookie$1; '
            . 'proxy_pass %%BACKEND%%/captured/$rest$is_args$args; }'],
);

# A burst of so many sessions is replaced at once: seven locations a user, each
# with a GET and a POST.
my $count = 0;
my $locations = '';

for (@rewritten) {
    my $user = int $count++ / 7;
    $locations .= $_->[3] =~ s/PASS/proxy_pass %%BACKEND%%;/gr
        =~ s/SIDE/proxy_pass http:\/\/127.0.0.1:%%PORT_backend_2%%;/gr
        =~ s/(location [^{]*\{)/$1 quickblox app$user;/gr . "\n";
}

$locations .= join '', map { "location = /warm/$_ { quickblox app$_; "
    . "proxy_pass %%BACKEND%%; }\n" } @USERS;

$t->nginx($applications . <<"END");
proxy_cache_path %%DIR%%/cache keys_zone=cache:1m;
limit_req_zone \$arg_key zone=requests:1m rate=1r/m;
limit_conn_zone \$arg_key zone=connections:1m;
client_max_body_size 10m;
quickblox_session user;
add_header X-Seen "\$quickblox_replayed|\$quickblox_status" always;
add_header X-Cache \$upstream_cache_status always;

server {
    listen 127.0.0.1:%%PORT_0%%;
    rewrite ^/srv/a\$ /srv/b\$uri;

    $locations

    location /side/ {
        proxy_pass http://127.0.0.1:%%PORT_backend_2%%;
    }
    location /auth {
        internal;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_pass http://127.0.0.1:%%PORT_backend_2%%;
    }
    location /mirror {
        internal;
        proxy_pass http://127.0.0.1:%%PORT_backend_2%%\$request_uri;
    }
    location /traffic/ {
        quickblox app3;
        mirror /mirror;
        auth_request /auth;
        auth_request_set \$who \$upstream_http_x_who;
        proxy_set_header X-Who \$who;
        limit_req zone=requests;
        limit_conn connections 1;
        proxy_pass %%BACKEND%%;
    }
    location /filters/ {
        quickblox app3;
        ssi on;
        sub_filter before after;
        add_before_body /side/before;
        add_after_body /side/after;
        proxy_pass %%BACKEND%%;
    }
    location /slice/ {
        quickblox app3;
        slice 1k;
        proxy_set_header Range \$slice_range;
        proxy_pass %%BACKEND%%;
    }

    location /cache/ {
        quickblox app4;
        proxy_cache cache;
        proxy_cache_valid any 1h;
        proxy_cache_key \$uri;
        proxy_ignore_headers Set-Cookie;
        proxy_pass %%BACKEND%%;
    }
    location /cache/locked/ {
        quickblox app4;
        proxy_cache cache;
        proxy_cache_valid any 1h;
        proxy_cache_key \$uri;
        proxy_cache_lock on;
        proxy_ignore_headers Set-Cookie;
        proxy_pass %%BACKEND%%;
    }
    location /cache/unbuffered/ {
        quickblox app4;
        proxy_cache cache;
        proxy_cache_methods GET HEAD POST;
        proxy_cache_valid any 1h;
        proxy_cache_key \$uri;
        proxy_request_buffering off;
        proxy_ignore_headers Set-Cookie;
        proxy_pass %%BACKEND%%;
    }
    location /cache/stale/ {
        quickblox app5;
        proxy_cache cache;
        proxy_cache_valid 200 1s;
        proxy_cache_valid any 1h;
        proxy_cache_key \$uri;
        proxy_cache_use_stale updating;
        proxy_cache_background_update on;
        proxy_ignore_headers Set-Cookie;
        proxy_pass %%BACKEND%%;
    }
    location /cache/client/ {
        quickblox app6;
        quickblox_session client;
        proxy_cache cache;
        proxy_cache_valid any 1h;
        proxy_cache_key "\$uri \$quickblox_user_id";
        proxy_ignore_headers Set-Cookie;
        add_header X-Cache \$upstream_cache_status always;
        add_header X-Expires \$quickblox_expires always;
        proxy_pass %%BACKEND%%;
    }
    location /client/ {
        quickblox app6;
        quickblox_session client;
        add_header X-Cache \$upstream_cache_status always;
        add_header X-Expires \$quickblox_expires always;
        proxy_pass %%BACKEND%%;
    }
}
END

my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';
my $BODY = join '', map { pack 'N', $_ * 2654435761 % 2 ** 32 }
    1 .. 3 * 1024 * 256;

sub logins { return $api->calls('POST /session.json') }

# The gateway's users lose their sessions, which it does not know.
sub expire ($user) {
    is $t->get("/warm/$user")->status, 200, "a session of user $user"
        or return;
    $api->expire_all;
    $api->reset_calls;
    $backend->reset;
    $side->reset;
}


# T46: rewritten once

$count = 0;

for (@rewritten) {
    my ($name, $path, $target, undef, $first) = @$_;
    my $user = int $count++ / 7;

    $side->answer($path =~ s/\?.*//r, %$first) if $first;

    for my $method (qw(GET POST)) {
        expire($user);

        my $body = $method eq 'POST' ? $BODY : '';
        my $res = $t->request(method => $method, path => $path,
            $method eq 'POST' ? (body => $body) : ());

        is $res->header('X-Seen'), '1|MISS', "T46: $method, $name: replayed";
        is $res->status, 200, "T46: $method, $name: served";

        my @requests = $backend->requests;
        my @heads = map {
            my $token = $_->header('QB-Token');
            $_->{head} =~ s/\Q$token\E/TOKEN/gr;
        } @requests;

        is_deeply [map { [@$_{qw(uri body_sha256)}] } @requests],
            [([$target, sha256_hex($body)]) x 2],
            "T46: $method, $name: the same resource twice";
        is $heads[1], $heads[0], "T46: $method, $name: with the same head";
        is_deeply [map { $_->{uri} } $side->requests], [$first ? $path : ()],
            "T46: $method, $name: what comes before is done once";
    }
}


# T47: other traffic

for my $method (qw(GET POST)) {
    expire(3);
    $side->answer('/auth', headers => [['X-Who', "one of $method"]],
        times => 1);
    $side->answer('/auth', headers => [['X-Who', 'another']]);
    $side->answer('/auth', headers => [['X-Who', "one of $method"]],
        times => 1);

    my $path = "/traffic/$method?key=$method";
    my $res = $t->request(method => $method, path => $path,
        $method eq 'POST' ? (body => $BODY) : ());

    is_deeply [$res->status, $res->header('X-Seen')], [200, '1|MISS'],
        "T47: $method: replayed, within limit_req and limit_conn";
    $side->wait_hits("/traffic/$method");

    is_deeply [map { $_->header('X-Who') } $backend->requests],
        [("one of $method") x 2],
        "T47: $method: the value of auth_request_set stays";
    is_deeply [map { $side->hits($_) } '/auth', "/traffic/$method"], [1, 1],
        "T47: $method: one auth_request, one mirror";
    is +($side->requests("/traffic/$method"))[0]{body_sha256},
        sha256_hex($method eq 'POST' ? $BODY : ''),
        "T47: $method: the mirror got the body";
    is $t->request(method => $method, path => $path, body => '')->status, 503,
        "T47: $method: a second request is beyond limit_req";

    $side->heal;
}

# Filters whose contexts the first response may have made.
{
    expire(3);
    my $page = '<p>before</p><!--# include virtual="/side/inc" -->'
        . '<!--# set var="a" value="b" --><!--# echo var="a" -->';

    $backend->answer('/filters/a', status => 200,
        headers => [['Content-Type', 'text/html']], body => $page);
    $backend->answer('/filters/a', times => 1,
        headers => [['Content-Type', 'text/html']]);
    $side->answer("/side/$_", headers => [['Content-Type', 'text/html']],
        body => "[$_]") for qw(before after inc);

    my $res = $t->get('/filters/a');

    is $res->body, '[before]<p>after</p>[inc]b[after]',
        'ssi, sub_filter and addition see the second response';
    is $res->header('X-Seen'), '1|MISS', 'which is one';
    is_deeply [map { $side->hits("/side/$_") } qw(before after inc)],
        [1, 1, 1], 'and include once';
}

{
    expire(3);
    my $res = $t->get('/slice/a');

    is_deeply [$res->status, $res->header('X-Seen')], [200, '1|MISS'],
        'slice: replayed';
    is_deeply [map { $_->header_all('Range') } $backend->requests],
        ['bytes=0-1023', 'bytes=0-1023'], 'slice: the same range';
}


# proxy_cache

my @cached = (
    # what the expired response is like
    ['whole', {}],
    ['in single bytes', {split => 'each'}],
    ['to be kept', {headers => [['Cache-Control', 'max-age=3600']]}],
    ['to be kept for a time', {headers => [['X-Accel-Expires', 3600]]}],
    ['gzip', {gzip => 1}],
);

for (@cached) {
    my ($name, $how) = @$_;
    my $path = '/cache/' . $name =~ s/ /-/gr;

    expire(4);
    $backend->answer($path, times => 1, %$how);

    my @res = map { $t->get($path) } 1 .. 4;
    my @statuses = map { $_->status } @res;
    my $seen = $name eq 'gzip' ? 401 : 200;

    is_deeply \@statuses, [$seen, 200, 200, 200],
        "proxy_cache: a 401 $name is not kept";
    is_deeply [map { $_->header('X-Cache') } @res],
        $seen == 200 ? [qw(MISS HIT HIT HIT)] : [qw(MISS MISS HIT HIT)],
        "proxy_cache: the answer is, $name";
    is $backend->hits($path), 2, "proxy_cache: two requests, $name";
    is logins(), 1, "proxy_cache: one login, $name";
}

# nginx turns HEAD into GET for its cache, where it would be found by GET.
{
    expire(4);
    my @res = map { $t->request(method => $_, path => '/cache/head') }
        qw(HEAD GET HEAD GET);

    is_deeply [map { $_->status } @res], [401, 200, 200, 200],
        'proxy_cache: a 401 to HEAD is not kept';
    is $res[3]->json->{hit}, 2, 'proxy_cache: the answer to GET is';
}

{
    expire(4);
    my @res = map { $t->post('/cache/unbuffered/', $BODY) } 1 .. 3;

    is_deeply [map { $_->status } @res], [401, 200, 200],
        'proxy_cache: a 401 to what cannot be replayed is not kept';
}

# A 401 that is no expired response is not kept either.
{
    expire(4);
    $backend->answer('/cache/other', status => 401, body => '{}', times => 1);
    $backend->answer('/cache/other', status => 401, body => '{}', times => 1);
    is_deeply [map { $t->get('/cache/other')->status } 1 .. 3],
        [401, 401, 200], 'proxy_cache: another 401';
}

# proxy_cache_lock: those who wait get what the replay brought.
{
    expire(4);
    my $began = time;
    my @clients = map { $t->start(path => '/cache/locked/a') } 1 .. 8;
    my @res = map { $_->finish } @clients;

    is_deeply [map { $_->status } @res], [(200) x 8],
        'proxy_cache_lock: all are served';
    is $backend->hits('/cache/locked/a'), 2,
        'proxy_cache_lock: by two requests';
    cmp_ok time - $began, '<', 4, 'proxy_cache_lock: without waiting for it';
}

# A background update is a subrequest: nothing can be replayed for it, and its
# 401 must not be kept for the next client.
{
    is $t->get('/cache/stale/a')->json->{hit}, 1, 'background update: begin';
    expire(5);
    $t->wait_for(sub {
        $t->get('/cache/stale/a')->header('X-Cache') ne 'HIT'
    }, 'stale entry');
    $backend->wait_hits('/cache/stale/a');

    my %seen;
    $t->wait_for(sub {
        my $res = $t->get('/cache/stale/a');
        $seen{$res->status}++;
        return $res->status != 200 || $res->json->{hit} > 1;
    }, 'update');

    is_deeply [keys %seen], [200],
        'background update: no client sees the expired response';
    is logins(), 1, 'background update: the session is found dead, once';
}


# Clients and the cache

my $bob = $api->session(user_id => 5);
my $alice = $api->session(user_id => 6);

# T18: the documented key.
{
    my @res = map { $t->get('/cache/client/mine', token => $_) }
        $bob, $alice, $bob, $alice;

    is_deeply [map { $_->json->{token} } @res], [$bob, $alice, $bob, $alice],
        'T18: each client sees what it was told itself';
    is_deeply [map { $_->header('X-Cache') } @res], [qw(MISS MISS HIT HIT)],
        'T18: from the cache';

    is $t->get('/cache/client/mine')->status, 401,
        'T18: nobody sees it without a token';
    is $t->get('/cache/client/mine', token => 'not-a-live-one')->status, 401,
        'T18: nor with a dead one';
}

# The mapped response is not kept, and hides nobody's good one.
{
    my $other = $api->session(user_id => 5);
    $t->get('/client/', token => $other);
    $api->expire($other);

    my @res = map { $t->get('/cache/client/new', token => $_) }
        $other, $other, $bob, $bob;

    is_deeply [map { $_->status } @res], [401, 401, 200, 200],
        'proxy_cache: a mapped 401 is not kept';
    is_deeply [map { $_->header('X-Cache') } @res[2, 3]], [qw(MISS HIT)],
        'proxy_cache: the good answer is';
}

# T57: what a kept answer says of an expiry was said of another session, or
# long ago.
{
    my $date = sub ($in) {
        strftime '%Y-%m-%d %H:%M:%S UTC', gmtime time + $in;
    };
    my $header = 'QB-Token-ExpirationDate';

    $backend->answer('/cache/client/date',
        headers => [[$header, $date->(1800)]]);
    $backend->answer('/client/date', headers => [[$header, $date->(5400)]]);
    $backend->answer('/client/none', headers => [[$header, undef]]);

    my $expires = sub {
        $t->get('/client/none', token => $bob)->header('X-Expires') - time;
    };

    $t->get('/cache/client/date', token => $bob);
    cmp_ok abs($expires->() - 1800), '<', 5, 'T57: a fresh answer counts';

    $t->get('/client/date', token => $bob);
    cmp_ok abs($expires->() - 5400), '<', 5, 'T57: so does a later one';

    my $kept = $t->get('/cache/client/date', token => $bob);
    is $kept->header('X-Cache'), 'HIT', 'T57: the first one, from the cache';
    cmp_ok abs($expires->() - 5400), '<', 5, 'T57: does not count';
}

$t->done;
