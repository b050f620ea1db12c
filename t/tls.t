# TLS to the API: only a server that proves to be the API gets a request (T35,
# F15), over a connection that was made for it (T45), by its name (T54).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use IO::Select;
use IO::Socket::SSL;
use Test::More;
use Time::HiRes qw(time);

my $GET = 'GET /session.json';

# A gateway that hangs up must not end the test.
$SIG{PIPE} = 'IGNORE';

my $t = Gateway->new;
my $backend = $t->backend;

# A server of the test's own, which tells all the bytes that it gets.
my %listener;

sub listener ($name) {
    my $port = $t->port($name);

    $listener{$name} = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, ReuseAddr => 1, Listen => 16) or die $@;

    return $port;
}

# The response to a request of a client, and what came on each connection that
# the gateway made for it.
sub served ($name, $handle, %request) {
    my $client = $t->start(path => "/$name/x", %request);
    my $wait = IO::Select->new($listener{$name}, $client->{socket});
    my @got;

    while (my @ready = $wait->can_read(10)) {
        last if grep { $_ == $client->{socket} } @ready;
        push @got, $handle->(scalar $listener{$name}->accept);
    }

    return $client->finish, @got;
}

sub rest ($socket) {
    my $bytes = '';
    my $wait = IO::Select->new($socket);

    while ($wait->can_read(3)) {
        sysread $socket, $bytes, 65536, length $bytes or last;
    }

    return $bytes;
}

my $token = 'Canary-Token-0123456789';
my $json = qq({"session":{"application_id":92,"user_id":5,)
    . qq("token":"$token"}});
my $answer = "HTTP/1.1 200 OK\r\nContent-Length: " . length($json)
    . "\r\nConnection: close\r\n\r\n$json";

$t->secret($token);

# Shakes hands, then reads; answers what is a request.
sub tls ($cert, %opt) {
    return sub ($socket) {
        $socket->blocking(1);

        IO::Socket::SSL->start_SSL($socket, SSL_server => 1,
            SSL_cert_file => $cert->{cert}, SSL_key_file => $cert->{key},
            Timeout => 5, %opt) or return '';

        my $bytes = '';
        while ($bytes !~ /\r\n\r\n/) {
            sysread $socket, $bytes, 65536, length $bytes or return $bytes;
        }

        syswrite $socket, $answer;
        $socket->close;

        return $bytes;
    };
}

sub application ($name, $url, @more) {
    my $more = join "\n    ", @more;

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

sub location ($name, $source = 'client') {
    return <<"END";
location /$name/ {
    quickblox $name;
    quickblox_session $source;
    proxy_pass %%BACKEND%%;
}
END
}

sub error ($name) {
    return join "\n", grep { /\[error\]/ && /"$name"/ }
        split /\n/, $t->error_log;
}

my @trust = ('api_host localhost;', 'ssl_trusted_certificate %%CA%%;');
my @old = (SSL_version => 'TLSv1_1', SSL_cipher_list => 'DEFAULT@SECLEVEL=0');

# Servers: how they shake hands, directives, what the log says, or nothing
# where they get the request.
my @server = (
    ['good', tls($t->cert), \@trust],
    ['TLS 1.2', tls($t->cert, SSL_version => 'TLSv1_2'), \@trust],
    ['unverified', tls($t->cert(self_signed => 1, expired => 1,
        names => ['other.test'])), ['ssl_verify off;']],
    ['an operator\'s TLS 1.1', tls($t->cert, @old), [@trust,
        'ssl_protocols TLSv1.1;', 'ssl_ciphers DEFAULT@SECLEVEL=0;']],

    ['expired', tls($t->cert(expired => 1)), \@trust,
        qr/certificate has expired/],
    ['not yet valid', tls($t->cert(future => 1)), \@trust,
        qr/certificate is not yet valid/],
    ['another name', tls($t->cert(names => ['other.test'])), \@trust,
        qr/certificate does not match "localhost"/],
    ['a longer name', tls($t->cert(names => ['localhost.other.test'])),
        \@trust, qr/certificate does not match "localhost"/],
    ['another CA', tls($t->cert(untrusted => 1)), \@trust,
        qr/certificate verify error/],
    ['self-signed', tls($t->cert(self_signed => 1)), \@trust,
        qr/self.signed certificate/],
    ['none of the system\'s CAs', tls($t->cert), ['api_host localhost;'],
        qr/certificate verify error/],
    ['TLS 1.1', tls($t->cert, @old),
        [@trust, 'ssl_ciphers DEFAULT@SECLEVEL=0;'],
        qr/unsupported protocol|protocol version/],
    ['ciphers that are not wanted', tls($t->cert, SSL_version => 'TLSv1_2',
        SSL_cipher_list => 'ECDHE-ECDSA-AES128-GCM-SHA256'),
        [@trust, 'ssl_protocols TLSv1.2;',
            'ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384;'],
        qr/handshake failure/],
    ['plaintext first', sub ($socket) {
        syswrite $socket, $answer;
        return rest($socket);
    }, \@trust, qr/./],
    ['no TLS', sub ($socket) {
        sysread $socket, my $bytes, 65536;
        syswrite $socket, $answer;
        return $bytes . rest($socket);
    }, \@trust, qr/wrong version number|unknown protocol|packet length/],
    ['no handshake', sub ($socket) { rest($socket) },
        [@trust, 'timeout 1s;'], qr/timed out/],
    ['closed', sub ($socket) { close $socket; '' }, \@trust,
        qr/closed connection|reset by peer|unexpected eof/],
);

my $http = join '', map {
    my ($url, @more) = ('https://127.0.0.1:' . listener("c$_"),
        @{$server[$_][2]});

    application("c$_", $url, @more),
        application("u$_", $url =~ s/\d+$/listener("u$_")/re, @more);
} 0 .. $#server;

$http .= "server {\nlisten 127.0.0.1:%%PORT_0%%;\n" . join('', map {
    location("c$_"), location("u$_", 'user')
} 0 .. $#server) . '}';

$t->nginx($http);

for my $i (0 .. $#server) {
    my ($name, $handle, $more, $reason) = @{$server[$i]};
    my $begin = time;
    my ($res, @got) = served("c$i", $handle, token => $token);

    ok @got > 0, "$name: the gateway connects";

    if (!$reason) {
        is $res->status, 200, "T35: $name: validated";
        like $got[0], qr/^GET \/session\.json HTTP.*\r\nQB-Token: $token\r\n/s,
            "T35: $name: the request arrives";

        ($res, @got) = served("u$i", $handle);
        is $res->status, 200, "T35: $name: a session is made";
        like $got[0], qr/^POST \/session\.json HTTP.*\r\n\r\n/s,
            "T35: $name: that request, too";
        next;
    }

    is $res->status, 503, "F15: $name: 503";
    cmp_ok time - $begin, '<', 3, "F15: $name: in time";

    my ($other, @got_too) = served("u$i", $handle);
    is $other->status, 503, "F15: $name: 503 without a session";

    for (join('', @got), join('', @got_too)) {
        unlike $_, qr/GET|POST|session|Canary|wJHd/,
            "T35: $name: no byte of a request is sent";
        like $_, qr/^(?:\x16\x03.*)?$/s, "T35: $name: but for the handshake";
    }

    like error("c$i"), qr/API call "GET \/session\.json" failed.*$reason/,
        "F15: $name: the log says why";
}

is $backend->hits, 2 * (grep { !$_->[3] } @server),
    'T13: nothing else is let through';


# T54: the name of the API, where "api" names a group

my %cert = (good => $t->cert, bad => $t->cert(self_signed => 1),
    named => $t->cert(names => ['api.test']));
my %query = (named => '&sni=api.test');

my $api = $t->api(args => [map {
    ('--listen', 'https://127.0.0.1:' . $t->port("tls_$_")
        . "?cert=$cert{$_}{cert}&key=$cert{$_}{key}" . ($query{$_} // ''))
} sort keys %cert]);

# As servers do that are not of Perl, this one lets a client resume a session.
$t->stop;
$t->nginx(join('', map { <<"END" } qw(good bad)), module => 0);
server {
    listen 127.0.0.1:%%PORT_resuming_$_%% ssl;
    ssl_certificate $cert{$_}{cert};
    ssl_certificate_key $cert{$_}{key};
    location / {
        proxy_pass %%API%%;
        proxy_set_header Host localhost;
    }
}
END

sub group ($name, $server, $keepalive = 4) {
    my $port = $server eq 'plain' ? $api->port
        : $t->port($server =~ /^resuming/ ? $server : "tls_$server");

    return "upstream $name {\nserver 127.0.0.1:$port;\n"
        . ($keepalive ? "keepalive $keepalive;\n" : '') . "}\n";
}

my @named = ('api_host api.test;', 'ssl_trusted_certificate %%CA%%;');

# What another proxy_pass says of TLS to the same group.
my @proxies = (
    ['unverified', 'bad', 4, 'https', 'proxy_ssl_verify off;'],
    ['plaintext', 'plain', 4, 'http', ''],
    ['right', 'good', 4, 'https', 'proxy_ssl_verify off;'],
    ['trusting', 'resuming_bad', 0, 'https', 'proxy_ssl_verify on;',
        'proxy_ssl_name localhost;',
        "proxy_ssl_trusted_certificate $cert{bad}{cert};"],
    ['resumed', 'resuming_good', 0, 'https', 'proxy_ssl_verify off;'],
);

$http = join '',
    group('named', 'named'), group('host', 'plain'), group('ours', 'good'),
    (map { group(@$_[0 .. 2]) } @proxies),
    application('named', 'https://named', @named),
    application('sni', 'https://named', @trust),
    application('host', 'http://host', 'api_host api.test;'),
    application('wrong', 'http://host'),
    application('address', 'https://127.0.0.1:' . $t->port('tls_named'),
        @named),
    (map { application($_->[0], "https://$_->[0]", @trust) } @proxies),
    "server {\nlisten 127.0.0.1:%%PORT_0%%;\n",
    (map { location($_) } qw(named sni host wrong address),
        map { $_->[0] } @proxies),
    (map { <<"END" } @proxies), '}';
location /proxy/$_->[0]/ {
    proxy_pass $_->[3]://$_->[0]/;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host localhost;
    @$_[4 .. $#$_]
}
END

$t->nginx($http);

sub session { return $api->session(user_id => 5) }

for my $app ('named', 'address') {
    $api->reset_calls;
    is $t->get("/$app/x", token => session())->status, 200,
        "T54: $app: api_host is the name that is verified";
    my ($call) = $api->requests($GET);
    is $call->{sni}, 'api.test', "T54: $app: and SNI";
    is $call->{tls}, 'TLSv1_3', "T54: $app: over TLS 1.3";
    is $call->header('Host'), 'api.test', 'T54: and Host'
        if $app eq 'named';
}

$api->set(host => 'api.test');
$api->reset_calls;
is $t->get('/host/x', token => session())->status, 200,
    'T54: an API that knows one Host';

for my $case (['wrong', 'Host'], ['sni', 'SNI']) {
    my ($app, $what) = @$case;

    is $t->get("/$app/x", token => session())->status, 503,
        "T54: another $what: 503";
    like error($app), qr/host/i, "T54: another $what: the log says \"host\"";
}

$api->set(host => '');

for my $case (
    ['https, no api_host', 'https://ours', 1],
    ['https, api_host', 'https://ours', 0, 'api_host localhost;'],
    ['http', 'http://ours', 0],
    ['an address', 'https://127.0.0.1:8443', 0],
) {
    my ($name, $url, $warns, @more) = @$case;
    my ($ok, $said) = $t->test_config(group('ours', 'good')
        . application('chat', $url, @more));

    ok $ok, "T54: nginx -t: $name: is good" or diag $said;
    is scalar(my @lines = $said =~ /^.*\[warn\].*api_host.*$/mg), $warns,
        "T54: nginx -t: $name: " . ($warns ? 'warns' : 'does not warn');
}


# T45: connections and sessions of others to the same group

for my $case (
    ['unverified', 503, qr/self.signed certificate/],
    ['plaintext', 503, qr/while SSL handshaking/],
    ['right', 200],
    ['trusting', 503, qr/certificate verify error/],
    ['resumed', 200],
) {
    my ($name, $status, $reason) = @$case;

    $api->reset_calls;

    is $t->get("/proxy/$name/account_settings")->status, 200,
        "T45: $name: another proxy_pass works" for 1, 2;

    my ($first, $second) = $api->requests;
    is $first->{connection} == $second->{connection} ? 'kept' : 'closed',
        $name =~ /trusting|resumed/ ? 'closed' : 'kept',
        "T45: $name: its connection";

    is $t->get("/$name/x", token => session())->status, $status,
        "T45: $name: an API call";
    is $api->calls($GET), $status == 200 ? 1 : 0,
        "T45: $name: calls that arrive";
    like error($name), $reason, "T45: $name: the log says why" if $reason;

    next if $name ne 'right';

    is $t->get("/$name/x", token => session())->status, 200,
        "T45: $name: another call";
    my @calls = $api->requests($GET);
    isnt $calls[0]{connection}, $second->{connection},
        "T45: $name: the call has a connection of its own";
    is $calls[1]{connection}, $calls[0]{connection},
        "T45: $name: which is kept for the next";
}

$t->done;
