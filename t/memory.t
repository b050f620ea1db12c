# F29, F30: each n-th allocation fails, of nginx, cJSON and OpenSSL, and each
# n-th call of OpenSSL, in every kind of request: it ends, nobody is let
# through, and the next one is served at once.  With QUICKBLOX_LONG=1 really
# each one, else a few of each, and of the module's own one on each path.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use List::Util qw(uniq);
use MIME::Base64 qw(encode_base64);
use Mojo::JSON qw(encode_json);
use Test::More;
use Time::HiRes qw(time);

my $LONG = $ENV{QUICKBLOX_LONG};

# Of each kind this many are tried at most.
my $TRIES = $LONG ? 400 : 2;

my $units = $ENV{QUICKBLOX_UNITS} // 'build/unit';

my %KIND = (
    memory => 0x01,
    module => 0x02,
    slab => 0x04,
    cjson => 0x08,
    openssl => 0x10,
    crypto => 0x20,
);
my $ANY = 0xffffffff;

# What fails may also be the first on a path through the module on which
# nothing has failed yet.
my $NEW = 0xffffffff;

my $t = Gateway->new;

plan skip_all => "$units/fail.so has not been built"
    if !-e "$units/fail.so";
plan skip_all => 'valgrind preloads a malloc() of its own'
    if $ENV{QUICKBLOX_VALGRIND};

$t->allow(
    qr/(?:malloc|posix_memalign)\(.*\) failed \(12: /,
    qr/SSL_new\(\) failed \(.*malloc failure/,
);

my $api = $t->api(tls => 1);
my $backend = $t->backend(check => $api);
my $told = $t->backend;

chmod 0600, $t->write('key', '0123456789abcdef' x 4);
$t->secret('Canary-Wrong-Pw');

my $control = $t->write('fail', "\0" x 32768);
open my $file, '+<:raw', $control or die "$control: $!";

# Pools so small that nearly each allocation is one of malloc().
my $configuration = <<'END' . <<"END_OF_TOLD" . <<'END_OF_SERVER';
connection_pool_size 112;
request_pool_size 112;

quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    api_key Canary-Api-Key-92;
    cookie_key %%DIR%%/key;
    cookie qb "Path=/; HttpOnly";
    zone quickblox 4m;
    connect_timeout 5s;
    lock_timeout 2s;
}

quickblox_application held {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone held 64k;
    cache_invalid 0;
    connect_timeout 5s;
    lock_timeout 2s;
}

quickblox_application renewed {
    api %%API%%;
    application_id 92;
    api_key Canary-Api-Key-92;
    zone quickblox;
    session_lifetime 3h;
    refresh_before 150m;
    connect_timeout 5s;
    lock_timeout 2s;
}

quickblox_application behalf {
    api %%API%%;
    application_id 92;
    api_key env:QUICKBLOX_API_KEY;
    on_behalf_of $arg_user;
    zone quickblox;
}

quickblox_application tls {
    api %%API_TLS%%;
    application_id 92;
    api_host localhost;
    ssl_trusted_certificate %%CA%%;
    zone tls 1m;
    connect_timeout 5s;
    lock_timeout 2s;
}

add_header X-Seen "$quickblox_status|$quickblox_replayed" always;

END
map \$request_uri \$told {
    default @{[$told->url]};
}

END_OF_TOLD
server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;

    quickblox chat;
    quickblox_user $arg_user;

    location / {
        proxy_pass %%BACKEND%%;
    }
    location /held/ {
        quickblox held;
        quickblox_session user;
        proxy_pass %%BACKEND%%;

        location /held/application/ {
            quickblox_session application;
            proxy_pass %%BACKEND%%;
        }
    }
    location /forget/ {
        quickblox held;
        quickblox_session user;
        quickblox_forget on;
        proxy_pass %%BACKEND%%;

        location /forget/application/ {
            quickblox_session application;
            proxy_pass %%BACKEND%%;
        }
    }
    location /key/ {
        quickblox_session api_key;
        proxy_pass $told;

        location /key/behalf/ {
            quickblox behalf;
            quickblox_require any $arg_allowed;
            proxy_pass $told;
        }
    }
    location /required/ {
        quickblox_token $arg_a $arg_b $arg_c $arg_d $http_qb_token;
        quickblox_require any $arg_allowed $arg_allowed $arg_allowed
            $arg_allowed $arg_allowed;
        quickblox_session cookie basic client user_token none;
        quickblox_header QB-Token;
        quickblox_expired 401 403 419 440 498;
        quickblox_origin https://a.test https://b.test https://c.test
            https://d.test https://e.test;
        proxy_pass %%BACKEND%%;
    }
    location /basic/ {
        quickblox_session basic;
        proxy_pass %%BACKEND%%;
    }
    location /user_token/ {
        quickblox_session user_token;
        proxy_pass %%BACKEND%%;
    }
    location /renewed/ {
        quickblox renewed;
        quickblox_session user_token;
        proxy_pass %%BACKEND%%;
    }
    location /tls/ {
        quickblox tls;
        proxy_pass %%BACKEND%%;
    }
    location /cookie/ {
        quickblox_session cookie;
        proxy_pass %%BACKEND%%;
    }
    location /told/ {
        quickblox_on_expired /told;
        proxy_pass %%BACKEND%%;
    }
    location = /told {
        internal;
        quickblox off;
        proxy_set_header X-User $quickblox_user_id;
        proxy_pass $told;
    }
    location /page/ {
        error_page 401 =200 /page;
        proxy_pass %%BACKEND%%;
    }
    location = /page {
        quickblox off;
        return 200 "the login page";
    }
    location = /login {
        quickblox_login;
    }
    location = /logout {
        quickblox_logout;
    }
    location = /me {
        quickblox_check;
    }
    location = /status {
        quickblox_status;
    }
}
END_OF_SERVER


# What fails

sub arm ($pid, $kinds, $at, $onwards = 0) {
    put(4, $kinds, $at, $onwards, 0, 0);
    put(0, $pid);

    return;
}

# How many allocations there were, and how many of them have failed.
sub disarm {
    put(0, 0);
    sysseek $file, 16, 0;
    sysread $file, my $counts, 8;

    return unpack 'L2', $counts;
}

sub put ($at, @numbers) {
    sysseek $file, $at, 0;
    syswrite $file, pack 'L*', @numbers;

    return;
}

my %env = (
    LD_PRELOAD => join(' ', $ENV{NGINX_PRELOAD} || (), "$units/fail.so"),
    QUICKBLOX_FAIL => $control,
    QUICKBLOX_API_KEY => 'Canary-Api-Key-92',
);


# At start: the zone's allocations, and all the others.

for my $kind ('slab', 'module', 'crypto') {
    my @wrong;
    my $n = 0;

    while (1) {
        $n++;
        arm($ANY, $KIND{$kind}, $kind eq 'slab' || $LONG ? $n : $NEW);
        my ($ok, $said) = $t->test_config($configuration, env => \%env);
        my (undef, $failed) = disarm();

        if (!$failed) {
            push @wrong, "nothing failed: $said" if !$ok;
            last;
        }

        push @wrong, "$n: $said" if $ok || $said =~ /signal|Sanitizer/
            || $said !~ /\[(?:emerg|alert)\]|test failed/;
    }

    is_deeply \@wrong, [], "F29: $kind at start: nginx says so, "
        . "and does not start ($n)";
}

my ($nginx, $worker);

sub start_nginx {
    $nginx->stop if $nginx;
    $nginx = $t->nginx($configuration, env => \%env,
        level => $LONG ? 'error' : 'info');
    ($worker) = $nginx->workers;

    return;
}


# Kinds of requests.  Of each: how it is prepared, where need be, and made,
# and its status when nothing fails.

my $number = 100;

sub person {
    my $id = ++$number;
    my $person = {id => $id, login => "person$id", password => "Canary-$id"};

    $api->user(%$person);

    return $person;
}

sub basic ($person) {
    return ['Authorization',
        'Basic ' . encode_base64("$person->{login}:$person->{password}", '')];
}

sub client_token { return {token => $api->session(user_id => 5)} }

sub known_token {
    my $it = client_token();
    $t->get('/', token => $it->{token});

    return $it;
}

sub cookie {
    my $res = $t->post('/login', encode_json({login => 'bob',
        password => 'Canary-Bob-Pw'}),
        headers => [['Content-Type', 'application/json']]);
    my ($cookie) = ($res->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/
        or die 'no cookie: ', $res->raw;

    return {headers => [['Cookie', $cookie]]};
}

sub expired_token ($path) {
    my $it = client_token();
    $t->get($path, token => $it->{token});
    $api->expire($it->{token});

    return $it;
}

# A session held that is no longer trusted, and has ended.
sub ended ($path) {
    my $res = $t->get("/forget$path");
    $api->expire($res->json->{token});

    return {};
}

sub get ($path, %opt) {
    return sub ($it) { $t->get($path, %$it, timeout => 5, %opt) };
}

sub post ($path, $type, $body) {
    return sub ($it) {
        return $t->post($path, ref $body ? $body->($it) : $body, %$it,
            headers => [['Content-Type', $type], @{$it->{headers} // []}],
            timeout => 5);
    };
}

my $JSON = 'application/json';
my $FORM = 'application/x-www-form-urlencoded';
my $bob = encode_json({login => 'bob', password => 'Canary-Bob-Pw'});

my @requests = (
    ['client, validated', \&client_token, get('/'), 200],
    ['client, validated over TLS', \&client_token, get('/tls/'), 200,
        backs_off => 'openssl'],
    ['client, known', \&known_token, get('/'), 200],
    ['client, unknown', sub { {token => 'unknown-' . ++$number} }, get('/'),
        401],
    ['client, POST', \&client_token,
        post('/', 'text/plain', 'x' x 20_000), 200],
    ['no token', sub { {} }, get('/'), 401],
    ['no token, error_page', sub { {} }, get('/page/'), 200, refused => 1],
    ['user, anew', sub { ended('/') }, get('/held/'), 200],
    ['application, anew', sub { ended('/application/') },
        get('/held/application/'), 200],
    ['api_key', sub { {} }, get('/key/'), 200],
    ['api_key, on behalf', sub { {} },
        get('/key/behalf/?user=5&allowed=1'), 200],
    ['client, required', \&client_token, get('/required/?allowed=1'), 200],
    ['client, forbidden', \&known_token, get('/required/'), 403,
        refused => 1],
    ['basic', sub { {headers => [basic(person())]} }, get('/basic/'), 200],
    ['basic, wrong', sub {
        return {headers => [basic({login => 'bob' . ++$number,
            password => 'Canary-Wrong-Pw'})]};
    }, get('/basic/'), 401],
    ['user_token', \&person,
        sub ($it) { get("/user_token/?user=$it->{id}")->({}) }, 200],
    ['cookie', \&cookie, get('/cookie/'), 200, sealed => 1],
    ['cookie, wrong', sub { {headers => [['Cookie', 'qb=' . 'a' x 160]]} },
        get('/cookie/'), 401],
    ['login, JSON', sub { {} }, post('/login', $JSON, $bob), 200],
    ['login, form', sub { {} }, post('/login', $FORM,
        'login=bob&password=Canary-Bob-Pw&redirect=/a'), 303],
    ['login, wrong', sub { {} }, post('/login', $FORM,
        'login=bob&password=Canary-Wrong-Pw'), 401],
    ['adopt', sub { {session => $api->session(user_id => 5)} },
        post('/login', $JSON, sub ($it) {
            return encode_json({token => delete local $it->{session}});
        }), 200],
    ['logout', \&cookie, post('/logout', $FORM, ''), 200],
    ['check', \&cookie, get('/me'), 200, sealed => 1],
    ['status', sub { {} }, get('/status'), 200],
    ['replay', sub {
        my $person = person();
        my $res = $t->get("/user_token/?user=$person->{id}");
        $api->expire($res->json->{token});
        return $person;
    }, sub ($it) {
        return $t->post("/user_token/?user=$it->{id}", 'x' x 20_000,
            timeout => 5);
    }, 200],
    ['expired', sub { expired_token('/') }, get('/'), 401, late => 1],
    ['expired, listener', sub { expired_token('/told/') }, get('/told/'),
        401, late => 1, background => 1],
    ['renewal', sub {
        my $person = person();
        $t->get("/renewed/?user=$person->{id}");
        return $person;
    }, sub ($it) { get("/renewed/?user=$it->{id}")->({}) }, 200,
        background => 1],
    ['HTTP/2', \&client_token, sub ($it) {
        return $t->h2('/', %$it, port => $t->port(1));
    }, 200],
    ['gRPC, refused', sub { {} }, sub ($it) {
        return $t->h2('/', method => 'POST', port => $t->port(1),
            headers => [['Content-Type', 'application/grpc']]);
    }, 200, refused => 1],
);


# The loop

my %tried;

# What is wrong with one failure, if anything.
sub attempt ($request, $kind, $at, $onwards) {
    my ($name, $prepare, $make, $status, %is) = @$request;

    my $it = $prepare->();
    $_->reset for $backend, $told;
    my $from = time;

    arm($worker, $KIND{$kind}, $at, $onwards);
    my $res = $make->($it);
    settle() if $is{background};
    my ($count, $failed) = disarm();

    my @wrong;
    my $got = $res->status // 0;

    push @wrong, 'took ' . (time - $from) if time - $from > 6;
    push @wrong, "no answer: $res->{error}"
        if !$res->complete && ($res->error // '') =~ /timeout/;
    push @wrong, 'nothing failed, and it got ' . $got
        if !$failed && $got != $status;

    # A tag that cannot be checked is a wrong one; 502 is nginx's own.
    push @wrong, "got $got" if $failed && $res->complete
        && !grep { $got == $_ } $status, 500, 502, 503,
            $is{sealed} && $kind eq 'crypto' ? 401 : ();

    if (!kill 0, $worker) {
        push @wrong, 'the worker has died';
        ($worker) = $nginx->workers;
    }

    push @wrong, reached($is{refused} || ($status == 401 && !$is{late}));
    push @wrong, 'a cookie without a session'
        if $failed && $got >= 500 && grep { /^qb=[^;]/ }
            $res->headers('Set-Cookie');

    if ($failed) {
        $tried{$kind}++;
        $from = time;
        my $again = $make->($it);

        # A handshake that has failed may be the API's fault, for a second.
        if ($kind eq ($is{backs_off} // '') && $again->status == 503) {
            $t->wait_for(sub { ($again = $make->($it))->status != 503 },
                'end of the back-off', 2);
            $from = time;
        }

        push @wrong, "then got " . ($again->status // 0)
            . ' ' . ($again->header('X-Seen') // '')
            if ($again->status // 0) != $status;
        push @wrong, 'then took ' . (time - $from) if time - $from > 4;
    }

    return ($count, $failed, map { "$name, $kind "
        . ($at == $NEW ? 'on a new path' : $onwards ? "from $at" : $at)
        . ": $_" } @wrong);
}

# What goes on in the background has come to its end.
sub settle {
    my ($count, $before) = (0, -1);

    while ($count != $before) {
        $before = $count;
        select undef, undef, undef, 0.02;
        sysseek $file, 16, 0;
        sysread $file, my $bytes, 4;
        $count = unpack 'L', $bytes;
    }

    return;
}

# What has reached the backend and must not have.
sub reached ($nothing) {
    my @wrong;

    for my $req ($backend->requests,
        grep { $_->{path} =~ m{^/key/} } $told->requests)
    {
        my @token = $req->header_all('QB-Token');
        my @authorization = $req->header_all('Authorization');
        my @behalf = $req->header_all('On-Behalf-Of');

        push @wrong, 'it reached the backend' if $nothing;
        push @wrong, 'nobody reached the backend'
            if $req->{path} =~ m{^/key/}
            ? "@authorization" ne 'ApiKey Canary-Api-Key-92' || @token
            : @token != 1 || @authorization;
        push @wrong, "it reached the backend as user \"@behalf\""
            if "@behalf" ne ($req->{path} =~ m{/behalf/} ? 5 : '');
        push @wrong, 'a cookie reached the backend'
            if grep { /\bqb=/ } $req->header_all('Cookie');
    }

    return uniq @wrong;
}

# What is allocated once, when a worker signs and seals for the first time.
{
    my ($login) = grep { $_->[0] eq 'login, JSON' } @requests;
    my @wrong;

    for my $n ($LONG ? 1 .. 250 : (1, 30, 60, 90)) {
        start_nginx();
        my (undef, $failed, @more) = attempt($login, 'openssl', $n, 0);
        push @wrong, @more, is_whole();
        last if !$failed;
    }

    is_deeply \@wrong, [], 'F30: the first login succeeds, or a later one';
}

# A cookie that has been sealed can be opened, and the zone remembers.
sub is_whole {
    my $it = cookie();
    my @seen = map { $t->get('/cookie/', %$it) } 1, 2;

    return if join(' ', map { $_->status } @seen) eq '200 200'
        && $seen[1]->header('X-Seen') =~ /^HIT/;
    return 'the cookie or the zone is not whole';
}

my %count;

start_nginx();

for my $request (@requests) {
    my ($what, undef, undef, undef, %is) = @$request;

    for my $kind ('memory', 'module', 'cjson', 'openssl', 'crypto') {
        # Warms up what is allocated once, and counts the rest.
        attempt($request, $kind, 0, 0);
        my ($count, undef, @wrong) = attempt($request, $kind, 0, 0);
        my $tries = $kind eq ($is{backs_off} // '') ? $TRIES / 10 : $TRIES;

        for my $onwards (0, 1) {
            last if !$count;

            my $new = !$LONG && !$onwards && $kind =~ /^(?:module|crypto)$/;
            my $step = !$new && $count > $tries ? $count / $tries : 1;

            # Until nothing fails, as there may be more than were counted.
            for (my $n = 1 + $onwards * $step / 2;
                $n <= 2 * $count + 2;
                $n += $step)
            {
                my (undef, $failed, @more) = attempt($request, $kind,
                    $new ? $NEW : int $n, $onwards);
                push @wrong, @more;
                last if !$failed || !$LONG && $onwards;
            }
        }

        $count{$what}{$kind} = $count;
        push @wrong, is_whole();

        ok !@wrong, "$what, $kind" or diag join "\n", @wrong > 12
            ? (@wrong[0 .. 11], 'and ' . (@wrong - 12) . ' more') : @wrong;
    }
}

for my $request (@requests) {
    diag sprintf '%-28s %s', $request->[0], join ', ', map {
        "$_ $count{$request->[0]}{$_}"
    } sort keys %{$count{$request->[0]}} if $LONG;
}

diag join ', ', map { "$_ $tried{$_}" } sort keys %tried;

is_deeply [$nginx->workers], [$worker], 'the worker lives';

$t->done;
