# Each folder of examples/ is a good configuration and does what it promises,
# with nothing but addresses and files replaced (T18, T52, T61); a recipe that
# has a folder shows lines of it.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Docs;
use Gateway;
use MIME::Base64 qw(encode_base64);
use Test::More;

my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';

my $t = Gateway->new;
my $api = $t->api(tls => $t->cert(names => ['api.quickblox.com']),
    applications => ['93:Tb6XoWdqLm3Zk8s:Canary-Secret-93']);
my $backend = $t->backend;
my ($bob, $alice) = map { $api->session(user_id => $_) } 5, 6;

my @json = (headers => [['Content-Type', 'application/json']]);
my $bob_logs_in = '{"login":"bob","password":"Canary-Bob-Pw"}';

my %promise = (
    'basic' => \&basic,
    'cache' => \&cache,
    'create-user' => \&create_user,
    'docker-secrets' => \&docker_secrets,
    'downloads' => \&downloads,
    'prometheus' => \&prometheus,
    'quickblox-api' => \&quickblox_api,
    'rate-limit' => \&rate_limit,
    'sdk' => \&sdk,
    'several-applications' => \&several_applications,
    'sso' => \&sso,
    'systemd-credentials' => \&systemd_credentials,
    'user-header' => \&user_header,
    'web-login' => \&web_login,
);


# The folders

my @folders = map { m{/([^/]+)/nginx\.conf$} } glob 'examples/*/nginx.conf';

is_deeply [sort keys %promise], \@folders, 'each folder promises something';

for my $folder (@folders) {
    my $text = Docs::slurp("examples/$folder/nginx.conf");

    like $text, qr/\A(?:# .+\n|#\n)+\n/, "$folder: says what it is";

    # the module's own calls need no TLS here, what "proxy_pass" does has it
    my $url = $api->url;
    $text =~ s/^quickblox_application \w+ \{\n/$&    api $url;\n/mg;

    $text = Docs::http($t, $text, api => '127.0.0.1:' . $api->tls_port,
        backend => '127.0.0.1:' . $backend->port);
    like Docs::said($t, $text),
        qr/\Anginx: .*syntax is ok\nnginx: .*is successful\n\z/,
        "$folder: is a good configuration";

    my $nginx = $t->nginx($text, env => {Docs::env($t)});
    $backend->reset;
    $api->reset_calls;
    $promise{$folder}->($folder, $nginx);
    $backend->heal;
    $nginx->stop;
}


# The recipes

my (undef, %section) = split /^## (.+)\n/m, Docs::slurp('docs/recipes.md');
my %linked;

for my $heading (sort keys %section) {
    my %folder = map { $_ => 1 }
        $section{$heading} =~ m{\(\.\./examples/([^/]+)/nginx\.conf\)}g
        or next;
    $linked{$_} = 1 for keys %folder;

    my @files = map { Docs::slurp($_) }
        map { glob "examples/$_/*.{conf,yml}" } keys %folder;

    for (grep { $_->{heading} eq $heading }
        Docs::blocks('docs/recipes.md'))
    {
        next if $_->{language} !~ /^(?:nginx|yaml|ini)$/;
        my $text = $_->{text};
        ok scalar(grep { shows($_, $text) } @files),
            "docs/recipes.md:$_->{line}: \"$heading\" shows lines of its "
                . 'example';
    }
}

is_deeply [sort keys %linked], \@folders, 'each folder has its recipe';

my %in_list = map { $_ => 1 }
    Docs::slurp('examples/README.md') =~ m{\]\(([^.)][^)]*)\)}g;
is_deeply [grep { !-f "examples/$_" } sort keys %in_list], [],
    'the list of examples is of files';
is_deeply [grep { !$in_list{"$_/nginx.conf"} } @folders], [],
    'and has each folder';

$t->done;


# All lines in their order, but for empty ones.
sub shows ($file, $text) {
    my @lines = split /\n+/, $file;

    for my $line (grep { length } split /\n/, $text) {
        shift @lines while @lines && $lines[0] ne $line;
        return 0 if !@lines;
        shift @lines;
    }

    return 1;
}

# The values that the upstream got of a header.
sub got ($res, $name) {
    return map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{$res->json->{headers}};
}

sub user_of ($token) {
    return (map { $_->{user_id} }
        grep { $_->{token} eq ($token // '') } $api->sessions)[0];
}

sub basic ($name, $nginx) {
    my $get = sub ($password) {
        return $t->get('/api/a', ssl => 1, headers => [['Authorization',
            'Basic ' . encode_base64("bob:$password", '')]]);
    };
    my $res = $get->('Canary-Bob-Pw');

    is user_of($res->json->{token}), 5, "$name: the user's session";
    is_deeply [got($res, 'Authorization')], [], "$name: and no password";
    $get->('Canary-Bob-Pw');
    is $api->calls('POST /session.json'), 1, "$name: one login for all";

    $res = $get->('Canary-Wrong-Pw');
    is $res->status, 401, "$name: a wrong password";
    is $res->header('WWW-Authenticate'),
        'Basic realm="chat", charset="UTF-8"', "$name: is asked for again";

    return;
}

sub cache ($name, $nginx) {
    $backend->answer('*', headers => [['Cache-Control', 'max-age=60']]);

    my $seen = sub ($path, $token) {
        return $t->get($path, token => $token, ssl => 1)->json->{token};
    };

    is_deeply [map { $seen->('/api/a', $_) } $bob, $alice, $bob, $alice],
        [$bob, $alice, $bob, $alice], "T18: $name: tells users apart";
    is $backend->hits('/api/a'), 2, "T18: $name: and is one";
    $seen->('/api/mine/a', $bob) for 1 .. 2;
    is $backend->hits('/api/mine/a'), 2, "T18: $name: or none";
    is $t->get('/api/a', ssl => 1)->status, 401, "$name: not for everybody";

    return;
}

sub create_user ($name, $nginx) {
    my %status;
    my $create = sub ($number) {
        return $t->post('/users.json', qq({"user":{"login":"new-$number",)
            . '"password":"Canary-New-Pw"}}', @json, ssl => 1);
    };

    is $t->get('/users.json', ssl => 1)->status, 403, "$name: lists nobody";
    is $t->request(method => 'DELETE', path => '/users.json', ssl => 1)
        ->status, 403, "$name: deletes nobody";
    is $t->post('/data/Note', '{}', @json, ssl => 1)->status, 404,
        "$name: and does nothing else";
    is $api->calls, 0, "$name: without a call";

    my $user = $create->(0);
    is $user->status, 201, "$name: a user signs up";
    cmp_ok $user->json->{user}{id}, '>', 6, "$name: and is there";
    $status{$create->($_)->status}++ for 1 .. 8;
    cmp_ok $status{429}, '>=', 3, "$name: not without end";

    return;
}

sub docker_secrets ($name, $nginx) {
    my $compose = Docs::slurp("examples/$name/compose.yml");
    my $conf = Docs::slurp("examples/$name/nginx.conf");

    is user_of($t->get('/api/a', port => $t->port(8080))->json->{token}), 1,
        "$name: the gateway's own user";

    my ($service, $files) = split /^secrets:\n/m, $compose;
    my @needs = sort $conf =~ m{/run/secrets/(\w+)}g;
    is_deeply [sort $service =~ /^ {6}- (quickblox_\w+)$/mg], \@needs,
        "$name: the service has the secrets";
    is_deeply [sort $files =~ /^ {2}(\w+):$/mg], \@needs,
        "$name: which are defined";
    is_deeply [sort $service =~ /^ {6}(QUICKBLOX_\w+): /mg],
        [sort $conf =~ /env:(\w+)/g], "$name: and the environment";
    like $service, qr/"127\.0\.0\.1:\d+:@{[$conf =~ m{listen (\d+);}]}"/,
        "$name: the port that nginx listens on, for this host alone";

    return;
}

sub downloads ($name, $nginx) {
    my $res = $t->get("/blobs/1?token=$bob&field_name=file&token=x",
        ssl => 1);

    is $res->json->{uri}, '/blobs/1?field_name=file',
        "T61: $name: no token for the upstream's log";
    is $res->json->{token}, $bob, "T61: $name: but in the header";
    is $res->header('Referrer-Policy'), 'no-referrer',
        "T61: $name: no Referer";

    my $unknown = 'Canary-unknown-token';
    $t->secret($unknown, $bob);
    is $t->get("/blobs/1?token=$unknown", ssl => 1)->status, 401,
        "T61: $name: refused";
    $backend->close_port;
    is $t->get("/blobs/1?token=$bob", ssl => 1)->status, 502,
        "T61: $name: no upstream";
    $backend->open_port;
    $nginx->stop;

    is_deeply [$t->read("$nginx->{name}/logs/access.log")
        =~ /"(GET .*?)" (\d+)/g], ['GET /blobs/1', 200, 'GET /blobs/1', 401,
        'GET /blobs/1', 502], "T61: $name: the access log";

    return;
}

# examples-metrics.t looks closer.
sub prometheus ($name, $nginx) {
    my $res = $t->get('/metrics', port => $t->port(9145),
        headers => {Accept => 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1'});

    like $res->body, qr/^quickblox_build_info\{.*\} 1$/m, "$name: metrics";

    return;
}

sub quickblox_api ($name, $nginx) {
    my @port = (port => $t->port(8080));
    my $list = sub (@token) {
        return $t->get('/users.json', @token, @port)->status;
    };

    is $list->(), 200, "$name: as the gateway's own user";
    is $list->(token => $bob), 200, "$name: or as one's own";
    is $list->(token => 'no-such-token'), 401, "$name: but not as nobody";
    is_deeply [map { user_of($_->header('QB-Token')) }
        $api->requests('GET /users.json')], [1, 5],
        "$name: QuickBlox gets the tokens";

    $api->reset_calls;
    $api->expire_user(1);
    is $list->(), 200, "$name: also after an expiry";
    is $api->calls('GET /users.json'), 2, "$name: by a replay";

    $api->reset_calls;
    is $t->request(method => $_->[0], path => $_->[1], @port)->status, 403,
        "$name: @$_ ends no session"
        for ['DELETE', '/session.json'], ['POST', '/login.json'],
            ['DELETE', '//session'], ['POST', '/login.xml'];
    is $api->calls, 0, "$name: it never gets there";

    return;
}

sub rate_limit ($name, $nginx) {
    my (%login, %api);

    $login{$t->post('/login', '{"login":"bob","password":"Canary-Wrong-Pw"}',
        @json, ssl => 1)->status}++ for 1 .. 12;
    cmp_ok $login{429}, '>=', 4, "$name: logins";
    is $api->calls, $login{401}, "$name: and QuickBlox is spared";

    # Those that are connected send at once.
    my @clients = map { $t->client(ssl => 1) } 1 .. 30;
    $_->start(path => '/api/a', token => $bob) for @clients;
    $api{$_->finish->status}++ for @clients;
    cmp_ok $api{429} // 0, '>=', 1, "T52: $name: requests with one token";
    is $t->get('/api/a', token => $alice, ssl => 1)->status, 200,
        "T52: $name: and not another's";

    is $t->get('/service/a', ssl => 1, headers => [['Authorization',
        'Basic ' . encode_base64('bob:Canary-Bob-Pw', '')]])->status, 200,
        "$name: services";

    return;
}

# sdk.t has the SDK itself.
sub sdk ($name, $nginx) {
    my @origin = (['Origin', 'https://app.example.com']);
    my $preflight = sub ($path) {
        return $t->request(method => 'OPTIONS', path => $path, ssl => 1,
            headers => [@origin, ['Access-Control-Request-Method', 'POST'],
                ['Access-Control-Request-Headers', 'qb-token']]);
    };

    for ('/users.json', '/session.json') {
        my $res = $preflight->($_);
        is $res->status, 200, "$name: a preflight of $_";
        is_deeply [$res->headers('Access-Control-Allow-Origin')], ['*'],
            "$name: is answered for all";
    }
    is $api->calls('GET /session.json'), 0, "$name: and asks for no session";

    my $res = $t->get('/users.json', ssl => 1, token => 'no-such-token',
        headers => \@origin);
    is_deeply [$res->status, $res->body], [401, $EXPIRED],
        "$name: a refusal as QuickBlox's";
    is_deeply [$res->headers('Access-Control-Allow-Origin')], ['*'],
        "$name: that a page can read";

    # What makes a new session has the old token; twenty times, no more calls.
    $api->reset_calls;
    $t->get('/account_settings.json', ssl => 1, token => 'no-such-token')
        for 1 .. 20;
    is $api->calls, 20, "$name: its own calls are left alone";
    is $t->get('/users.json', ssl => 1, token => $bob)->status, 200,
        "$name: a live token";

    return;
}

sub several_applications ($name, $nginx) {
    my $other = $api->session(application_id => 93, user_id => 7);
    my $get = sub ($host, $path, $token) {
        return $t->get($path, ssl => 1, host => "$host.example.com",
            sni => "$host.example.com", ssl_options => {
                SSL_verifycn_name => 'localhost'}, token => $token)->status;
    };

    is_deeply [map { $get->(@$_, $bob), $get->(@$_, $other) }
        ['chat', '/api/a'], ['support', '/api/a'], ['chat', '/help/a']],
        [200, 403, 403, 200, 403, 200], "$name: each its own";

    return;
}

sub sso ($name, $nginx) {
    my @spoofed = (ssl => 1, headers => [['X-QuickBlox-User', 1]]);
    my $vouch = sub (%how) { $backend->answer('/sso', %how) };

    $vouch->(headers => [['X-QuickBlox-User', 6]]);
    my $token = $t->get('/api/a', @spoofed)->json->{token};
    is user_of($token), 6, "$name: whom it vouches for";
    is $t->get('/chat-session', ssl => 1)->json->{session}{token}, $token,
        "$name: gets the token for chat";

    for (
        ['nobody', {}, 401],
        ['not a number', {headers => [['X-QuickBlox-User', 'bob']]}, 403],
        ['refused', {status => 401}, 401],
    ) {
        my ($case, $how, $status) = @$_;
        $vouch->(%$how);
        is $t->get($_, @spoofed)->status, $status, "$name: $case, $_"
            for '/api/a', '/chat-session';
    }

    return;
}

sub systemd_credentials ($name, $nginx) {
    my $unit = Docs::slurp("examples/$name/quickblox.conf");
    my $login = $t->post('/login', $bob_logs_in, @json, ssl => 1);
    my ($cookie) = $login->header('Set-Cookie') =~ /^([^;]+)/;

    is user_of($t->get('/api/a', ssl => 1)->json->{token}), 1,
        "$name: the gateway's own user";
    is user_of($t->get('/api/a', ssl => 1, headers => [['Cookie', $cookie]])
        ->json->{token}), 5, "$name: and who has logged in";

    is_deeply [sort $unit =~ /^LoadCredential=(\w+):/mg],
        [sort +(Docs::slurp("examples/$name/nginx.conf")
            =~ m{/run/credentials/nginx\.service/(\w+)}g)],
        "$name: the service has the credentials";

    return;
}

sub user_header ($name, $nginx) {
    my $get = sub ($path, $token) {
        return $t->get($path, token => $token, ssl => 1,
            headers => [['X-User-Id', 1], ['x-user-id', 2]]);
    };
    my $res = $get->('/api/a', $bob);

    is_deeply [got($res, 'X-User-Id')], [5], "$name: the id";
    is_deeply [got($res, 'QB-Token')], [], "$name: and no token";
    is $get->('/api/editors/a', $bob)->status, 200, "$name: an editor";
    is_deeply [got($get->('/api/editors/a', $alice), 'X-User-Id')], [6],
        "$name: another";

    my $carol = $api->session(user_id =>
        $api->user(id => 77, login => 'carol', password => 'Canary-Carol')
            ->{id});
    is $get->('/api/editors/a', $carol)->status, 403, "$name: who is none";

    return;
}

# browser.t has the page itself.
sub web_login ($name, $nginx) {
    my $login = $t->post('/login', $bob_logs_in, @json, ssl => 1);
    my ($cookie, $attributes)
        = $login->header('Set-Cookie') =~ /^(__Host-[^;]+)(.*)/;
    my $get = sub ($path) {
        return $t->get($path, ssl => 1,
            headers => [['Cookie', "a=1; $cookie; b=2"]]);
    };

    is $attributes, '; Secure; HttpOnly; SameSite=Lax; Path=/',
        "$name: a cookie";
    like $get->('/')->body, qr/<form/, "$name: the page";
    is $get->('/me')->json->{session}{user_id}, 5, "$name: who am I";
    is_deeply [got($get->('/api/a'), 'X-User-Id')], [5], "$name: the API";
    is user_of($get->('/api/a')->json->{token}), 5, "$name: gets the token";
    is_deeply [got($get->('/api/a'), 'Cookie')], ['a=1; b=2'],
        "$name: and not the cookie";
    is $t->post('/logout', '', ssl => 1, headers => [['Cookie', $cookie]])
        ->status, 200, "$name: logout";
    is $get->('/api/a')->status, 401, "$name: and no more";

    return;
}
