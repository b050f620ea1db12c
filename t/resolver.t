# An API whose host name the "resolver" of nginx resolves: on the first call
# and as its TTL runs out, the last good address serving while the resolver
# fails (F16); and without a "resolver".

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use IO::Socket::INET;
use Mojo::JSON qw(decode_json encode_json);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $GET = 'GET /session.json';
my $POST = 'POST /session.json';

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

# Another API, at the same port of another address.
my $other = $t->api(args => ['--listen', 'http://127.0.0.2:' . $api->port]);


# A name server.  What it says of a name is in a file: {address => [...],
# ttl => 60}, {rcode => 2}, or {} for nothing at all; it notes the names that
# it is asked for in another.
my $asked = $t->write('asked', '');
my %names;

sub name ($name, %says) {
    $names{$name} = \%says;
    rename $t->write('names.new', encode_json(\%names)),
        $t->dir . '/names' or die $!;

    return;
}

sub queries ($name) {
    return scalar(grep { $_ eq $name } split /\n/, $t->read('asked'));
}

sub serve ($socket) {
    my $parent = getppid;

    while (getppid == $parent) {
        my $ready = '';
        vec($ready, fileno $socket, 1) = 1;
        select $ready, undef, undef, 0.5 or next;
        my $peer = recv $socket, my $query, 512, 0 or next;

        my ($id) = unpack 'n', $query;
        my $question = substr $query, 12;
        my $name = join '.', unpack '(C/a)*', $question =~ s/\0.{4}$//sr;

        open my $file, '>>', $asked;
        print $file "$name\n";
        close $file;

        my $says = decode_json($t->read('names'))->{$name} // {rcode => 3};
        next if !%$says;

        my @address = @{$says->{address} // []};
        my $answer = pack 'n6 a*', $id, 0x8180 | ($says->{rcode} // 0), 1,
            scalar @address, 0, 0, $question;
        $answer .= pack 'n3 N n a4', 0xc00c, 1, 1, $says->{ttl} // 60, 4,
            Socket::inet_aton($_) for @address;
        send $socket, $answer, 0, $peer;
    }

    POSIX::_exit(0);
}

my $socket = IO::Socket::INET->new(Proto => 'udp',
    LocalAddr => '127.0.0.1', LocalPort => $t->port('dns')) or die $@;

name('live.test', address => ['127.0.0.1'], ttl => 60);

my $server = fork // die $!;
serve($socket) if !$server;
close $socket;


my %host = (
    live => '',
    moving => 'timeout 2s;',
    dead => '',
    two => '',
    nxdomain => '',
    servfail => '',
    empty => '',
    mute => 'timeout 1s;',
    away => 'timeout 1s;',
);

sub application ($name, $url, $more = '') {
    return <<"END";
quickblox_application $name {
    api $url;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone $name 64k;
    $more
}
END
}

my $locations = join '', map { <<"END" } sort keys %host;
location /$_/client/ {
    quickblox $_;
    proxy_pass %%BACKEND%%;
}
location /$_/user/ {
    quickblox $_;
    quickblox_session user;
    proxy_pass %%BACKEND%%;
}
location /$_/application/ {
    quickblox $_;
    quickblox_session application;
    proxy_pass %%BACKEND%%;
}
END

$t->nginx("resolver 127.0.0.1:%%PORT_dns%% ipv6=off;\n"
    . join('', map { application($_, "http://$_.test:%%API_PORT%%", $host{$_})
    } sort keys %host)
    . "server {\nlisten 127.0.0.1:%%PORT_0%%;\n$locations}\n");

sub session { return $api->session(user_id => 5) }

sub client ($app, $token = session()) {
    return $t->get("/$app/client/x", token => $token);
}

sub is_refusal ($res, $name) {
    return is_deeply [$res->status, $res->body,
        ($res->header('Retry-After') // '') =~ /^[1-9]\d*$/ ? 1 : 0],
        [503, '{"errors":{"base":["Service is temporarily unavailable"]}}',
            1], $name;
}


# On the first call, and not again before the TTL has run out

is $t->read('asked'), '', 'nothing is resolved at start';

is client('live')->status, 200, 'the first call';
is client('live')->status, 200, 'more calls' for 1 .. 5;
is $t->get('/live/user/x')->status, 200, 'and a POST';
is queries('live.test'), 1, 'the name is resolved once';

my ($call) = $api->requests($GET);
is $call->header('Host'), 'live.test:' . $api->port, 'the Host is the name';

# Of several addresses one that answers is found.
name('two.test', address => ['127.0.0.3', '127.0.0.1']);
is client('two')->status, 200, 'two addresses, one where nobody listens'
    for 1 .. 4;


# Without a good address

name('nxdomain.test', rcode => 3);
name('servfail.test', rcode => 2);
name('empty.test', address => []);
name('mute.test');

for my $case (
    ['nxdomain', qr/nxdomain\.test could not be resolved \(Host not found\)/],
    ['servfail', qr/servfail\.test could not be resolved \(Server failure\)/],
    ['empty', qr/empty\.test could not be resolved/],
    ['mute', qr/timed out/],
) {
    my ($app, $reason) = @$case;
    my $hits = $backend->hits;
    my $begin = time;

    is_refusal client($app), "F16: $app: 503";
    cmp_ok time - $begin, '<', 2, "F16: $app: in time";
    is_refusal $t->get("/$app/user/x"), "F16: $app: 503 without a session";
    is $backend->hits, $hits, "T13: $app: nothing is let through";

    my @lines = grep { /\[error\]/ && /"$app"/ } split /\n/, $t->error_log;
    is @lines, 1, "F16: $app: one line";
    like $lines[0], $reason, "F16: $app: which says why";
}


# A client that goes away while the name is resolved

name('away.test');
my $client = $t->start(path => '/away/client/x', token => session());
$t->wait_for(sub { queries('away.test') }, 'query');
$client->abort;

name('away.test', address => ['127.0.0.1']);
$t->wait_for(sub { client('away')->status == 200 }, 'recovery', 5);
pass 'F16: a client goes away: nothing else happens';


# The address changes as its TTL runs out

$api->reset_calls;
name('moving.test', address => ['127.0.0.1'], ttl => 1);

my $token = session();
is client('moving', $token)->status, 200, 'moving: the first address';
my $held = $t->get('/moving/user/x')->json->{token};
is $api->calls, 2, 'moving: is called';

name('moving.test', address => ['127.0.0.2'], ttl => 1);

my $shared = 'Canary-Shared-Token';
$_->session(user_id => 5, token => $shared) for $api, $other;

$t->wait_for(sub {
    client('moving');
    return $other->calls($GET);
}, 'call at another address', 3);
is $t->get('/moving/application/x')->status, 200, 'moving: to another';
is $other->calls($POST), 1, 'moving: which is called now';

# The resolver fails: the last good address serves.
sub at_other {
    my $token = $other->session(user_id => 5);
    my $calls = $other->calls($GET);
    my $res = client('moving', $token);

    return $res->status == 200 && $other->calls($GET) == $calls + 1;
}

for my $case (
    ['SERVFAIL', rcode => 2],
    ['NXDOMAIN', rcode => 3],
    ['no address', address => []],
    ['no answer'],
) {
    my ($name, @says) = @$case;

    name('moving.test', @says);
    my $queries = queries('moving.test');

    $t->wait_for(sub {
        client('moving');
        return queries('moving.test') > $queries;
    }, "query that fails: $name", 5);

    my $begin = time;
    ok at_other(), "F16: $name: the last good address is called";
    cmp_ok time - $begin, '<', 2, "F16: $name: in time";
    is client('moving', $token)->status, 200,
        "F16: $name: a validated token is served";
    is $t->get('/moving/user/x')->json->{token}, $held,
        "F16: $name: so is the session held";
}

name('moving.test', address => ['127.0.0.1'], ttl => 60);
$api->reset_calls;
$t->wait_for(sub { client('moving'); $api->calls($GET) },
    'call at the first address', 3);
pass 'F16: it answers again: the new address is called';

kill TERM => $server;
waitpid $server, 0;


# Which resolver, and none

# A name that the system's resolver refuses without asking anybody.
my $unknown = 'a' x 64 . '.test';
my $resolver = 'resolver 127.0.0.1:%%PORT_dns%%;';

for my $case (
    ['none', "application\n", 0],
    ['in "http"', "$resolver\napplication\n", 1],
    ['in "http", further down', "application\n$resolver\n", 1],
    ['in "server"', "server { $resolver }\napplication\n", 0],
) {
    my ($name, $http, $good) = @$case;
    my ($ok, $said) = $t->test_config($http =~
        s/application\n/application('chat', "http:\/\/$unknown")/er);

    is $ok ? 1 : 0, $good, "resolver: $name: nginx -t" or diag $said;
    like $said, qr/\[emerg\].*host not found.*\Q$unknown\E.*nginx\.conf:\d+/,
        "resolver: $name: says why" if !$good;
}

$t->done;
