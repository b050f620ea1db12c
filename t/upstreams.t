# The header list as applications behind FastCGI, uwsgi, SCGI and gRPC see it:
# what a client forged is gone, the session is there once, and an expired
# response is replayed.
#
# uWSGI (with a Perl application) speaks three of the protocols, Python's grpc
# the fourth.  As both hand their application a hash, a recorder of our own
# shows what was sent twice.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use IO::Socket::INET ();
use JSON::PP ();
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $dir = $t->dir;

# Tokens that the applications take for expired, one a line.
my $expired = $t->write('expired', '');


# The applications

my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';

my $psgi = $t->write('app.psgi', <<"END");
use JSON::PP ();

sub {
    my \$env = shift;
    my \$token = \$env->{HTTP_QB_TOKEN} // '';
    my \$body = '';

    while (\$env->{'psgi.input'}->read(my \$bytes, 65536)) {
        \$body .= \$bytes;
    }

    open my \$file, '<', '$expired' or die;
    my \$status = (grep { \$_ eq "\$token\\n" } <\$file>) ? 401 : 200;

    return [\$status, ['Content-Type', 'application/json'], [
        \$status == 401 ? '$EXPIRED' : JSON::PP::encode_json({
            length => length \$body,
            vars => [map { [\$_, \$env->{\$_}] }
                grep { /^HTTP_/ } sort keys \%\$env],
        })]];
}
END

my $grpc = $t->write('grpc-echo', <<"END");
import concurrent.futures, json, grpc

class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        def answer(body, context):
            vars = [[k, v] for k, v in context.invocation_metadata()]
            return json.dumps({'method': call.method, 'vars': vars,
                               'length': len(body)}).encode()
        return grpc.unary_unary_rpc_method_handler(answer)

server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=2))
server.add_generic_rpc_handlers((Echo(),))
server.add_insecure_port('127.0.0.1:${\ $t->port('grpc')}')
server.start()
server.wait_for_termination()
END

# A request of any of the three protocols, which its first byte tells.
sub parse ($socket) {
    my $take = sub ($n) {
        my $bytes = '';
        while (length $bytes < $n) {
            read($socket, $bytes, $n - length $bytes, length $bytes) or die;
        }
        return $bytes;
    };

    my $first = $take->(1);
    my (@vars, $body, $end, $answer);

    if ($first eq "\x01") {
        my %stream = (4 => '', 5 => '');
        my ($type, $done) = (unpack('x0 C', $take->(1)), 0);

        while (1) {
            my ($length, $padding) = unpack 'x2 n C x', $take->(6);
            my $content = $take->($length);
            $take->($padding);
            $stream{$type} .= $content if exists $stream{$type};
            last if $type == 5 && !$length;
            $type = unpack 'x C', $take->(2);
        }

        my $params = $stream{4};
        my $number = sub {
            my $n = unpack 'C', $params;
            return unpack 'C', substr $params, 0, 1, '' if $n < 128;
            return unpack('N', substr $params, 0, 4, '') & 0x7fffffff;
        };

        while (length $params) {
            my ($name, $value) = ($number->(), $number->());
            push @vars, [map { substr $params, 0, $_, '' } $name, $value];
        }

        $body = $stream{5};
        $answer = sub ($head, $text) {
            my $out = "Status: $head\r\n\r\n$text";
            return pack('CCnnCC', 1, 6, 1, length $out, 0, 0) . $out
                . pack('CCnnCC', 1, 6, 1, 0, 0, 0)
                . pack('CCnnCC NC x3', 1, 3, 1, 8, 0, 0, 0, 0);
        };

        return ('fastcgi', \@vars, $body, $answer);
    }

    my ($protocol, $line);

    if ($first eq "\x00") {
        $protocol = 'uwsgi';
        $line = 'HTTP/1.1';
        @vars = unpack '(v/a v/a)*', $take->(unpack 'v x', $take->(3));

    } else {
        $protocol = 'scgi';
        $line = 'Status:';
        $first .= $take->(1) while $first !~ /:$/;
        @vars = split /\0/, $take->(substr $first, 0, -1), -1;
        pop @vars;
        $take->(1);
    }

    @vars = map { [@vars[2 * $_, 2 * $_ + 1]] } 0 .. $#vars / 2;

    my ($length) = map { $_->[1] } grep { $_->[0] eq 'CONTENT_LENGTH' } @vars;
    $body = $take->($length || 0);
    $answer = sub ($head, $text) { return "$line $head\r\n\r\n$text" };

    return ($protocol, \@vars, $body, $answer);
}

sub recorder () {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $t->port('recorder'), ReuseAddr => 1, Listen => 100)
        or die "listen: $@";

    while (my $socket = $listener->accept) {
        binmode $socket;

        # Connections that only ask whether anybody listens end here.
        my ($protocol, $vars, $body, $answer) = eval { parse($socket) }
            or next;

        my ($token) = map { $_->[1] } grep { $_->[0] eq 'HTTP_QB_TOKEN' }
            @$vars;
        my $dead = grep { $_ eq ($token // '') }
            split /\n/, $t->read('expired');
        my $record = JSON::PP::encode_json({
            protocol => $protocol,
            vars => $vars,
            length => length $body,
            sha256 => sha256_hex($body),
        });

        open my $log, '>>', "$dir/recorded" or die;
        print $log "$record\n";
        close $log;

        print $socket $answer->(($dead ? '401 Unauthorized' : '200 OK')
            . "\r\nContent-Type: application/json", $dead ? $EXPIRED
            : $record);
    }
}

my @children;

# Until it accepts on all these ports.
sub start ($run, @ports) {
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        open STDOUT, '>>', "$dir/programs.log";
        open STDERR, '>&', \*STDOUT;
        eval { $run->(); 1 } or print $@;
        POSIX::_exit(1);
    }

    push @children, $pid;

    for my $port (@ports) {
        $t->wait_for(sub {
            waitpid($pid, POSIX::WNOHANG()) == 0
                or die 'did not start: ' . $t->read('programs.log');
            IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
        }, "program on port $port", 20);
    }

    return;
}

sub end () {
    kill KILL => @children;
    waitpid $_, 0 for splice @children;

    return;
}

my $owner = $$;
END {
    local $?;
    end() if defined $owner && $owner == $$;
}

start(sub {
    exec 'uwsgi', '--plugin', 'psgi', '--need-app', '--psgi', $psgi,
        '--buffer-size', 32768, map { ("--$_-socket",
        '127.0.0.1:' . $t->port($_)) } qw(uwsgi fastcgi scgi)
        or die "uwsgi: $! (uwsgi-core, uwsgi-plugin-psgi)\n";
}, map { $t->port($_) } qw(uwsgi fastcgi scgi));
start(sub {
    exec '/usr/bin/python3', $grpc or die "python3: $! (python3-grpcio)\n"
}, $t->port('grpc'));
start(\&recorder, $t->port('recorder'));


# nginx

my %pass = (
    fastcgi => '
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param PATH_INFO $document_uri;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param SERVER_NAME localhost;
            fastcgi_param SERVER_PORT 80;
            fastcgi_pass',
    uwsgi => '
            uwsgi_param REQUEST_METHOD $request_method;
            uwsgi_param QUERY_STRING $query_string;
            uwsgi_param REQUEST_URI $request_uri;
            uwsgi_param PATH_INFO $document_uri;
            uwsgi_param CONTENT_LENGTH $content_length;
            uwsgi_param SERVER_PROTOCOL $server_protocol;
            uwsgi_param SERVER_NAME localhost;
            uwsgi_param SERVER_PORT 80;
            uwsgi_pass',
    scgi => '
            scgi_param CONTENT_LENGTH $content_length;
            scgi_param SCGI 1;
            scgi_param REQUEST_METHOD $request_method;
            scgi_param QUERY_STRING $query_string;
            scgi_param REQUEST_URI $request_uri;
            scgi_param PATH_INFO $document_uri;
            scgi_param SERVER_PROTOCOL $server_protocol;
            scgi_param SERVER_NAME localhost;
            scgi_param SERVER_PORT 80;
            scgi_pass',
    grpc => 'grpc_pass',
);

my %modes = (
    user => 'quickblox_session user;',
    client => 'quickblox_session client;',
    none => 'quickblox_session none;',
    api_key => 'quickblox_session api_key;',
    renamed => 'quickblox_session user; quickblox_header X-Session-Id;',
);

my $locations = '';

for my $protocol (sort keys %pass) {
    for my $to ($protocol, $protocol eq 'grpc' ? () : 'recorder') {
        for my $mode (sort keys %modes) {
            $locations .= <<"END";
    location /$protocol/$to/$mode {
        $modes{$mode}
        $pass{$protocol} 127.0.0.1:%%PORT_$to%%;
    }
END
        }
    }

    # Said twice, by hand and by the module.
    next if $protocol eq 'grpc';

    $locations .= <<"END";
    location /$protocol/twice {
        $modes{user}
        ${protocol}_param HTTP_QB_TOKEN \$quickblox_token;
        $pass{$protocol} 127.0.0.1:%%PORT_recorder%%;
    }
END
}

$t->nginx(<<"END");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    on_behalf_of 7;
    zone quickblox 1m;
}

add_header X-Replayed \$quickblox_replayed;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;
    quickblox chat;
    underscores_in_headers on;
    client_body_buffer_size 16k;

$locations
}
END

# All values of the variables that concern us.
sub seen ($vars) {
    my %seen;

    for (@$vars) {
        my $name = lc $_->[0] =~ s/^HTTP_//r =~ tr/_/-/r;

        push @{$seen{$name}}, $_->[1] if $name
            =~ /token|session|authorization|behalf|^x-/;
    }

    return \%seen;
}

# The gateway's own.
sub held () {
    return map { $_->{token} } grep { $_->{user_id} == 1 } $api->sessions;
}

my $bob = $api->session(user_id => 5);

my @headers = (
    ['X-One', 1], ['QB-Token', $bob], ['QB_Token', $bob], ['qb-token', $bob],
    ['On-Behalf-Of', 5], ['on_behalf_of', 5], ['X-Session-Id', 'forged'],
    ['Authorization', 'ApiKey Other-Key'], ['X-Two', 2],
    map { ["X-Number-$_", $_] } 3 .. 30,
);

my %kept = ('x-one' => [1], 'x-two' => [2],
    map { ("x-number-$_" => [$_]) } 3 .. 30);

for my $protocol (sort keys %pass) {
    for my $to ($protocol, $protocol eq 'grpc' ? () : 'recorder') {
        for my $mode (sort keys %modes) {
            my $path = "/$protocol/$to/$mode";
            my @own = $mode eq 'client' ? () : @headers;
            my $res;

            if ($protocol eq 'grpc') {
                $res = $t->h2($path, method => 'POST', port => $t->port(1),
                    body => "\0\0\0\0\5hello", headers => [
                        ['Content-Type', 'application/grpc'],
                        ['TE', 'trailers'], @headers]);
                $res->{body} = unpack 'x N/a', $res->body
                    if $res->header('Content-Type') eq 'application/grpc';

            } else {
                $res = $t->get($path, headers => \@headers);
            }

            my %expected = (
                client => {'qb-token' => [$bob], 'x-session-id' => ['forged']},
                none => {'x-session-id' => ['forged']},
                api_key => {'authorization' => ['ApiKey Canary-Api-Key-92'],
                    'on-behalf-of' => [7], 'x-session-id' => ['forged']},
            );

            $expected{user} = {'qb-token' => [held()],
                'x-session-id' => ['forged']};
            $expected{renamed} = {'x-session-id' => [held()]};

            is_deeply seen(($res->json // {})->{vars}),
                {%kept, %{$expected{$mode}}}, "T02: $protocol to "
                . ($to eq 'recorder' ? 'the recorder' : 'an application')
                . ", $mode" or diag $res->raw;
        }
    }
}

is $api->calls('POST /session.json'), 1, 'one login served them all';

for my $protocol (qw(fastcgi uwsgi scgi)) {
    my $vars = $t->get("/$protocol/twice", headers => \@headers)->json;

    is $vars->{protocol}, $protocol, "$protocol it is";
    is scalar(grep { $_->[0] eq 'HTTP_QB_TOKEN' } @{$vars->{vars}}), 1,
        "T63: $protocol: a parameter of that name does not double it";

    # Several headers of one name still reach it, however nginx sends them.
    my $same = $t->get("/$protocol/recorder/user", headers => [['X-Same', 1],
        ['QB-Token', $bob], ['X-Same', 2]])->json->{vars};
    is join(', ', map { $_->[1] } grep { $_->[0] eq 'HTTP_X_SAME' } @$same),
        '1, 2', "$protocol: other headers keep all their values";
}


# Replay

for my $protocol (qw(fastcgi uwsgi scgi)) {
    for my $to ($protocol, 'recorder') {
        for my $body (undef, join '', map { sprintf '%07d,', $_ } 1 .. 40_000)
        {
            my ($old) = held();
            $api->expire($old);
            $t->write('expired', $t->read('expired') . "$old\n");
            $t->write('recorded', '');
            $api->reset_calls;

            my $res = $t->request(path => "/$protocol/$to/user?a=b",
                headers => \@headers, defined $body ? (body => $body) : ());
            my ($new) = held();
            my $length = length($body // '');
            my $name = "replay: $protocol to " . ($to eq 'recorder'
                ? 'the recorder' : 'an application') . ", $length bytes";

            is $res->status, 200, $name;
            is $res->header('X-Replayed'), 1, 'was replayed';
            is_deeply seen($res->json->{vars})->{'qb-token'}, [$new],
                'with the new token, once';
            is $res->json->{length}, $length, 'and all of the body';
            is $api->calls, 1, 'after one call to the API';

            next if $to ne 'recorder';

            my @tries = map { JSON::PP::decode_json($_) }
                split /\n/, $t->read('recorded');

            is scalar @tries, 2, 'the backend was asked twice';
            is $tries[1]{sha256}, sha256_hex($body // ''), 'the same bytes';

            is_deeply [map { seen($_->{vars})->{'qb-token'} } @tries],
                [[$old], [$new]], 'with one token each';

            my ($first, $second) = map {
                [grep { $_->[0] ne 'HTTP_QB_TOKEN' } @{$_->{vars}}]
            } @tries;
            is_deeply $second, $first, 'and otherwise the same variables';
        }
    }
}

end();
$t->done;
