# The harness itself, with an nginx that has nothing of ours in it.

use strict;
use warnings;
use lib 't/lib';

use Digest::SHA ();
use Gateway;
use Test::More;

my $t = Gateway->new;
my $api = $t->api(tls => 1);
my $backend = $t->backend(check => $api);

my $http = <<'END';
server {
    listen 127.0.0.1:%%PORT_0%%;
    location / {
        proxy_pass %%BACKEND%%;
    }
    location /api/ {
        proxy_pass %%API%%/;
    }
    location /tls/ {
        proxy_pass %%API_TLS%%/;
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_ssl_server_name on;
        proxy_ssl_trusted_certificate %%CA%%;
    }
    location /local {
        default_type text/plain;
        return 200 local;
    }
}

server {
    listen 127.0.0.1:%%PORT_1%% ssl;
    ssl_certificate %%CERT%%;
    ssl_certificate_key %%KEY%%;
    location / {
        return 200 tls;
    }
}

server {
    listen 127.0.0.1:%%PORT_2%% http2;
    location / {
        proxy_pass %%BACKEND%%;
    }
}
END

$t->nginx($http, module => 0, workers => 2);

my $token = $api->session(user_id => 5);


# Requests and responses

{
    my $res = $t->get('/local');

    is $res->status, 200, 'status';
    is $res->body, 'local', 'body';
    is $res->header('content-type'), 'text/plain', 'header';
    ok $res->complete, 'complete';
    is scalar(my @none = $res->headers('X-None')), 0, 'no such header';
}

{
    my $res = $t->request(path => '/a?b=c', token => $token,
        headers => [['X-One', 1], ['x-two', ''], ['X-One', 2]]);
    my $seen = $res->json;

    is $seen->{uri}, '/a?b=c', 'the backend tells the URI';
    is $seen->{token}, $token, 'and the token';
    is_deeply [map { $_->[1] } grep { $_->[0] eq 'X-One' }
        @{$seen->{headers}}], [1, 2], 'and both headers';

    my ($request) = $backend->requests('/a');
    is $request->header('x-one'), 1, 'recorded: the first value';
    is_deeply [$request->header_all('X-ONE')], [1, 2], 'all values';
    like $request->{head}, qr{^GET /a\?b=c HTTP/1\.[01]\r\n}, 'the bytes';
}

is $t->get('/a', token => 'unknown-token')->status, 401,
    'the backend asks the API';
is $backend->hits('/a'), 2, 'hits';
is $backend->hits, 2, 'all hits';

{
    my $body = join '', map { chr($_ & 255) } 1 .. 300_000;
    my $res = $t->post('/post', $body, token => $token);

    is $res->json->{body_length}, 300_000, 'a long body';
    is $res->json->{body_sha256}, Digest::SHA::sha256_hex($body),
        'arrives as it was';
    is $backend->last_request->{body}, $body, 'and is recorded';

    $res = $t->post('/post', $body, token => $token, chunked => 1000);
    is $res->json->{body_sha256}, Digest::SHA::sha256_hex($body),
        'in chunks too';
}

{
    my $client = $t->client;

    is $client->get('/local')->status, 200, 'one connection';
    is $client->post('/local', 'x')->status, 200, 'a second request';
    is $client->request(method => 'HEAD', path => '/local')->body, '', 'HEAD';
    is $client->get('/local')->status, 200, 'one more after that';

    $client->start(path => '/local', keepalive => 0);
    is $client->finish->status, 200, 'and the last';
    ok $client->closed, 'closed';
}

like $t->raw("GET /local HTTP/1.0\r\n\r\n"), qr/^HTTP.*local$/s, 'raw bytes';
is $t->get('/', port => $t->port(1), ssl => 1)->body, 'tls', 'TLS';
is $t->get('/', port => $t->closed_port)->status, 0, 'nobody listens';

{
    my $res = $t->h2('/h2', port => $t->port(2), token => $token,
        body => 'abc', headers => [['X-Empty', ''], ['X-One', 1]]);

    is $res->status, 200, 'HTTP/2';
    is $res->json->{body_length}, 3, 'with a body';
    is $res->version, 2, 'version';
}

{
    my @clients = map { $t->start(path => "/many$_", token => $token) }
        1 .. 100;
    my @responses = map { $_->finish } @clients;

    is scalar(grep { $_->status == 200 } @responses), 100,
        'a hundred at once';
}


# Held answers, the API through nginx

$backend->answer('/held', hold => 1, status => 202, body => 'late');
{
    my @clients = map { $t->start(path => '/held', token => $token) } 1, 2;

    $backend->wait_held(2);
    is $backend->release, 2, 'both are let go';
    is_deeply [map { $_->finish->body } @clients], ['late', 'late'],
        'and answered';
}

$backend->answer('/events', pieces => ['one', 'two'], step => 1);
{
    my $client = $t->start(path => '/events', token => $token,
        version => '1.1');

    $backend->wait_held(1);
    $backend->release;
    $backend->wait_held(1);
    $backend->release;
    $backend->wait_held(1);
    $backend->release;
    is $client->finish->body, 'onetwo', 'an answer in pieces';
}

is $t->get('/api/session.json', token => $token)->json->{session}{user_id},
    5, 'the API';
is $t->get('/tls/session.json', token => $token)->status, 200,
    'the API over TLS';
is $api->calls('GET /session.json'), 2, 'calls';

$api->close_port;
is $t->get('/api/session.json', token => $token)->status, 502,
    'the API is gone';
$api->open_port;
is $t->get('/api/session.json', token => $token)->status, 200,
    'and back, with its sessions';

{
    my $client = $t->client(port => $t->blackhole, timeout => 0.1);
    like $client->{error}, qr/connect/, 'a port that swallows';
}


# Certificates

for my $case (
    [{}, qr/^HTTP/, 'good'],
    [{expired => 1}, qr/expired/, 'expired'],
    [{future => 1}, qr/not yet valid/, 'not yet valid'],
    [{names => ['other.test']}, qr/hostname/, 'another name'],
    [{untrusted => 1}, qr/verify failed/, 'another CA'],
    [{self_signed => 1}, qr/verify failed/, 'self-signed'],
) {
    my ($how, $expected, $name) = @$case;

    my $other = $t->backend(tls => $t->cert(%$how));
    my $run = $t->curl('-i', '--cacert', $t->ca,
        "https://localhost:$other->{tls_port}/",
        '--resolve', "localhost:$other->{tls_port}:127.0.0.1");
    my $said = $run->{stdout} . $run->{stderr};

    $said =~ s/.*certificate has expired.*/expired/s;
    $said =~ s/.*no alternative certificate subject name.*/hostname/s;
    $said =~ s/.*certificate is not yet valid.*/not yet valid/s;
    $said =~ s/.*(?:unable to get|self.signed).*/verify failed/s;
    like $said, $expected, "certificate: $name";
    $other->stop;
}


# nginx

{
    my ($ok, $output) = $t->test_config('nonsense;', module => 0);

    ok !$ok, 'a bad configuration';
    like $output, qr/unknown directive "nonsense"/, 'says why';

    ($ok, $output) = $t->test_config('', module => 0);
    ok $ok, 'a good configuration' or diag $output;
}

{
    my @before = $t->workers;

    is @before, 2, 'two workers';
    ok $t->reload($http =~ s/return 200 local/return 200 other/r), 'reload';
    is $t->get('/local')->body, 'other', 'the new configuration';

    my %before = map { $_ => 1 } @before;
    is scalar(grep { $before{$_} } $t->workers), 0, 'new workers';

    $t->allow(qr/unknown directive "nonsense"/);
    ok !$t->reload('nonsense;'), 'a reload that nginx refuses';
    is $t->get('/local')->body, 'other', 'serves on';
    is_deeply [$t->wait_log(qr/unknown directive "(\w+)"/)], ['nonsense'],
        'wait for a line of the log';
}


# The final checks find what they should

{
    my $bad = Gateway->new;
    my $nginx = $bad->nginx(<<'END', module => 0, level => 'info');
server {
    listen 127.0.0.1:%%PORT_0%%;
    return 200;
}
END
    $bad->secret('Canary-In-Query');
    $bad->get('/?x=Canary-In-Query');
    kill KILL => $bad->workers;
    $bad->wait_log(qr/exited on signal/);

    my $wrong = join "\n", $bad->_finish;
    like $wrong, qr/exited on signal 9/, 'a worker that died is noticed';
    like $wrong, qr/a secret in nginx access_log/, 'so is a secret';
    $bad->_remove;
    ok !-d $bad->dir, 'the directory is removed';
}

SKIP: {
    skip 'this nginx has no debug logs', 3
        if !Gateway::Nginx::has('--with-debug');

    # At level debug nginx writes down all headers itself.
    my $debug = Gateway->new;
    $debug->nginx(<<'END', module => 0, level => 'debug');
server {
    listen 127.0.0.1:%%PORT_0%%;
    return 200;
}
END
    $debug->secret('Canary-In-Header');
    is $debug->get('/', token => 'Canary-In-Header')->status, 200,
        'a header at level debug';
    like $debug->error_log, qr/QB-Token: Canary-In-Header/, 'is logged';
    is join("\n", $debug->_finish), '', 'but not held against the module';
    $debug->_remove;
}

for my $case (
    ['$t->{said} = "jyqGNhbGxkvBTgd"; done_testing', 1, 'without done()'],
    ['$t->done', 0, 'with done()'],
    ['$t->{said} = "jyqGNhbGxkvBTgd"; $t->done', 1, 'a failing done()'],
    ['$t->api; exit 7', 7, 'that ends early'],
) {
    my ($code, $exit, $name) = @$case;
    my $run = Gateway::_run($^X, '-It/lib', '-MGateway', '-MTest::More',
        '-e', "my \$t = Gateway->new; ok 1; diag \$t->dir; $code");

    is $run->{exit}, $exit, "exit code of a test $name" or diag $run->{stderr};
    my ($dir) = $run->{stderr} =~ m{^# (/.*)}m;
    ok !-e $dir, 'which leaves nothing behind';
}

$t->done;
