package Gateway;

=encoding utf8

=head1 NAME

Gateway - nginx with the module, the stand-in API and a backend, for tests

=head1 SYNOPSIS

    use strict;
    use warnings;
    use lib 't/lib';
    use Gateway;
    use Test::More;

    my $t = Gateway->new;
    my $api = $t->api;
    my $backend = $t->backend;

    $t->nginx(<<'END');
    quickblox_application chat {
        api %%API%%;
        application_id 92;
        auth_key wJHd4cQSxpQGWx5;
        auth_secret jyqGNhbGxkvBTgd;
        zone quickblox 1m;
    }

    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / {
            quickblox chat;
            proxy_pass %%BACKEND%%;
        }
    }
    END

    my $token = $api->session(user_id => 5);

    is $t->get('/a', token => $token)->status, 200, 'a live token';
    is $api->calls('GET /session.json'), 1, 'was validated';
    is $backend->hits('/a'), 1, 'reached the backend';

    $t->done;

=head1 THE TEST

=over

=item Gateway->new(allow => [qr/.../, ...])

A temporary directory (kept with T_KEEP=1) and all that the test starts.
C<allow> names [alert] and [emerg] lines of the error log that are expected;
C<< $t->allow(qr/.../) >> adds to them.

=item $t->done

The last line of every test: stops everything, and fails the test, as one
check of its own, on an [alert] or [emerg], a worker that died of a signal, a
sanitizer's report, an nginx that does not end, and any secret in a log.  Then
done_testing(), unless there is a plan (which must count this check).  A test
that ends early gets the same checks, by its exit code.

=item $t->secret($string, ...)

Must not be found in logs and temporary files, nor in what C<nginx -t> said.
Known without: the API's passwords, keys and tokens, the secrets that a
configuration has or names files of, what clients log in with, and the sealed
cookies that they are given (strings of less than 8 bytes are not looked for).
A secret of the gateway's, and a password, may be in no answer either.
$t->public($string) takes one off the list.

=item $t->wait_for(sub { ... }, $what, $timeout)

Until the function returns true; dies at the timeout (10 s).

=item $t->dir, $t->write($name, $content), $t->read($name)

Files in the temporary directory; C<write> returns the path.

=item $t->port($n)

A port of the test's own, the same for the same number (or name).
$t->closed_port: one where nothing listens.  $t->blackhole: one where
connecting never ends.

=item $t->interpolate($text)

What every configuration goes through: %%PORT_n%%, %%DIR%%, %%API%% (URL),
%%API_PORT%%, %%API_TLS%% (URL), %%API_TLS_PORT%%, %%BACKEND%% (URL),
%%BACKEND_PORT%%, %%CA%% (file), %%CERT%%, %%KEY%% (of a good certificate).

=item $t->cert(%opt)

Files {cert, key, ca} of a new certificate, by default for localhost and
127.0.0.1, signed by the test's own CA.  names => ['api.test', '10.0.0.1'],
expired => 1, future => 1, untrusted => 1 (another CA), self_signed => 1.
$t->ca: the CA's file.

=back

=head1 NGINX

=over

=item $t->nginx($http, %opt)

Starts nginx with this http block and waits until it accepts.  Options:
workers => 1, level => 'info' (of the error log), main => '...', events =>
'...' (more text), module => 0 (without the module) or a path, env => {NAME =>
value}, under => [command and its arguments, which becomes nginx].  An
access_log in the text replaces the default one.  A second nginx can run beside
the first: it is what the calls below then mean; the object that C<nginx>
returns has them all, for either.

=item $t->test_config($http, %opt)

C<nginx -t>: (whether it is good, all that was said).

=item $t->reload, $t->reload($http), $t->stop

SIGHUP; waits for the new workers and the end of the old (keep => 1: not for
that).  False if nginx refused the configuration.

=item $t->workers, $t->error_log, $t->access_log, $t->wait_log(qr/.../)

Process ids; texts; waits for a line, returns what the pattern captured.
$nginx->pid, ->signal('USR1'), ->running, ->start, ->configure($http), ->dir,
->stderr.

=back

NGINX is the binary to test, QUICKBLOX_MODULE the module's file (default
build/ngx_http_quickblox_module.so), QUICKBLOX_STATIC=1 a binary that has the
module inside.  NGINX_PRELOAD is preloaded into nginx alone; ASAN_OPTIONS and
UBSAN_OPTIONS are passed on, with a log_path of the test's.
QUICKBLOX_VALGRIND is the command of valgrind to run nginx under (and every
tenth "nginx -t"), with all waits ten times as long; QUICKBLOX_DEBUG=1 puts
error logs without a level of their own at debug.

=head1 THE API

=over

=item $t->api(%opt)

Starts t/quickblox-api.  Options: application_id, auth_key, auth_secret (those
of the documentation), api_key ('Canary-Api-Key-92'), lifetime, users =>
[[login, password, id, email], ...] (default: gateway, Canary-Gateway-Pw, 1;
bob, Canary-Bob-Pw, 5, bob@example.com; alice, Canary-Alice-Pw, 6),
applications => ['93:key:secret:apikey'] (more of them; 93 with
authkey93, Canary-Secret-93 is there by default), tls => 1 or $t->cert(...)
(an HTTPS port too), tls_query => 'sni=name', args => [...].

=item port, url, tls_port, tls_url, stop

=item calls($endpoint), counts, requests($endpoint), reset_calls

How often C<"POST /session.json"> was called (without an endpoint: all calls);
all counts; the calls themselves (see L</Recorded requests>).
wait_calls($endpoint, $n) waits for them.

=item session(user_id => 5), sessions

The token of a new session (application_id, lifetime, token may be given; no
user_id: an application session); the list of live ones.

=item expire($token), expire_user($id), expire_all, advance($s), skew($s)

Ends sessions; lets time pass for them; puts the API's clock wrong.

=item user(id => 5, password => '...'), user(id => 5, delete => 1)

=item fail(endpoint => 'GET /session.json', %how), heal

The endpoint (default '*') fails until heal(), or times => n; skip => n lets
some pass first, token, match choose calls.  How, all combinable where it makes
sense: status, headers => [[name, value]] (undef removes), body ("{{token}}"
is the call's), patch => {session => {user_id => 7}}, delay, hold, blackhole,
raw => bytes (keep => 1), before, reset or cut => 'before', 'headers', 'body',
'last' or a number, drip, split => [...] or 'each', huge => bytes or 'endless',
chunked => size, extension, trailers, gzip, length, no_length, version =>
'1.0', pieces => [...], step, upgrade, close: see Gateway/Server.pm.

=item held, wait_held($n), release, release($n)

Calls that C<hold> keeps back.

=item set(tokens => 'jwt', ...), connections, close_port, open_port

Settings of t/quickblox-api; {accepted, open}; refuse connections, and back.

=back

=head1 THE BACKEND

=over

=item $t->backend(%opt)

Records and answers 200 with {method, uri, version, headers: [[name, value]],
body_length, body_sha256, token, connection, hit}.  Options: check (below),
tls => 1 or $t->cert(...), keep_body (bytes of a body that are recorded),
private => '/api/' (answers below this path do not show the token).

=item port, url, tls_port, stop, connections, close_port, open_port

=item hits($path), wait_hits($path, $n), requests($path), reset

Of a path, or of all; last_request($path) is the newest.

=item answer($path, %how), heal

As fail() above, plus method; '*' is any path.  upgrade => 1 switches
protocols and sends every byte back; pieces with step make an event stream.

=item check($api), check(tokens => [...]), check(undef)

A QB-Token that is not live at the API (where this slides it, as QuickBlox
would), or is none of these, gets the 401 of QuickBlox.

=item held, wait_held($n), release($n)

=back

=head1 REQUESTS

=over

=item $t->get($path, %opt), $t->post($path, $body, %opt), $t->request(%opt)

Options: method, path, headers (pairs or a hash), token (QB-Token), body, json
(a body to encode), chunked => size, port (default: $t->port(0)), host (the
header), version, keepalive, timeout, ssl => 1 (sni, ca, ssl_options).

The response: status (0: none came), reason, version, header('name'),
headers('name') (all values), pairs, body, json, chunks, trailers, interim,
complete, error ('timeout', 'closed', 'reset: ...'), raw (its bytes).

=item $t->start(%opt), ->finish

The same request, answered later: my @c = map { $t->start(path => "/$_") } 1
.. 400; my @responses = map { $_->finish } @c;

=item $t->client(%opt)

A connection: ->request, ->get, ->post (kept alive), ->send($bytes), ->start,
->finish, ->read_until(qr/.../), ->read_all, ->closed, ->close, ->abort (RST).

=item $t->raw($bytes, %opt)

Sends bytes, returns all bytes that come until the end or the timeout.

=item $t->curl(@args), $t->h2($path, %opt)

curl: {exit, stdout, stderr}; a response over HTTP/2 (prior knowledge; method,
headers, token, body, port, ssl).

=item Gateway::H2, Gateway::Worker

A connection of HTTP/2 with many streams at once; what a process of nginx holds
of memory, descriptors and connections.  Each file begins with how it is used.

=back

=head2 Recorded requests

method, uri, path, version, headers (pairs in order), head (bytes), body,
body_length, body_sha256, connection (number), chunked; ->header($name),
->header_all($name).

=cut

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Carp qw(croak);
use Cwd ();
use File::Basename ();
use File::Temp ();
use Gateway::Client qw($PATIENCE);
use Gateway::Control ();
use Gateway::Nginx ();
use Gateway::Secrets qw(learn_public learn_request learn_response
    learn_secrets secrets_in secrets_in_answers secrets_in_file);
use IO::Socket::INET ();
use IO::Socket::UNIX ();
use Mojo::JSON qw(encode_json);
use POSIX ();
use Scalar::Util qw(weaken);
use Socket qw(SOCK_STREAM);
use Test::More ();
use Time::HiRes ();

our $ROOT = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../..');

my @all;

sub new ($class, %opt) {
    # Ctrl-C must end what was started, too.
    $SIG{INT} //= sub { exit 130 };
    $SIG{TERM} //= sub { exit 143 };

    my $self = bless {
        allow => [],
        %opt,
        ports => {},
        locks => [],
        said => '',
        nginxes => [],
        children => [],
        owner => $$,
    }, $class;

    $self->{dir} = File::Temp::tempdir('quickblox-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $self->{dir};

    # Held here until the end: a variable of the test's file goes out of scope
    # before END, when its exit code can still be set.
    push @all, $self;

    return $self;
}

sub dir ($self) { return $self->{dir} }

sub write ($self, $name, $content) {
    my $path = "$self->{dir}/$name";

    require File::Path;
    File::Path::make_path(File::Basename::dirname($path));

    open my $file, '>', $path or croak "$path: $!";
    binmode $file;
    print $file $content;
    close $file or croak "$path: $!";

    return $path;
}

sub read ($self, $name) {
    return Gateway::Nginx::_slurp("$self->{dir}/$name");
}

sub wait_for ($self, $condition, $what = 'change', $timeout = 10) {
    my $deadline = Time::HiRes::time() + $timeout * $PATIENCE;

    until ($condition->()) {
        croak "no $what after $timeout s" if Time::HiRes::time() > $deadline;
        select undef, undef, undef, 0.005;
    }

    return 1;
}

sub allow ($self, @patterns) { return push @{$self->{allow}}, @patterns }

sub secret ($self, @secrets) { return learn_secrets(@secrets) }

sub public ($self, @strings) { return learn_public(@strings) }

sub module ($self) {
    return if $ENV{QUICKBLOX_STATIC};

    my $path = $ENV{QUICKBLOX_MODULE}
        // "$ROOT/build/ngx_http_quickblox_module.so";

    return Cwd::abs_path($path) // $path;
}


# Ports

# From outside the range that the system gives to outgoing connections, which
# could otherwise take a port between its choice and its use.
sub _range {
    my ($low, $high) = (32768, 60999);

    if (open my $file, '<', '/proc/sys/net/ipv4/ip_local_port_range') {
        ($low, $high) = split ' ', readline $file;
    }

    return $low > 12000 ? (10000, $low - 1) : ($high + 1, 65535);
}

# An abstract socket of the port's name is the lock: tests of other users see
# it as well, and it is gone when this process is.
sub _free_port ($self) {
    my ($from, $to) = _range();

    for (1 .. 2000) {
        my $port = $from + int rand($to - $from + 1);

        my $lock = IO::Socket::UNIX->new(
            Local => "\0quickblox-test-port-$port",
            Type => SOCK_STREAM,
            Listen => 1,
        ) or next;

        my $socket = IO::Socket::INET->new(
            LocalAddr => '0.0.0.0',
            LocalPort => $port,
            ReuseAddr => 1,
            Listen => 1,
        ) or next;

        close $socket;
        push @{$self->{locks}}, $lock;

        return $port;
    }

    croak 'no free port';
}

sub port ($self, $name = 0) {
    return $self->{ports}{$name} //= $self->_free_port;
}

sub closed_port ($self) { return $self->port('closed') }

# A listener whose queue is full: the kernel drops what else would connect.
sub blackhole ($self) {
    my $port = $self->port('blackhole');
    return $port if $self->{blackhole};

    my $listener = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1',
        LocalPort => $port,
        ReuseAddr => 1,
        Listen => 1,
    ) or croak "port $port: $@";
    listen $listener, 0;

    my @clients;
    for (1 .. 4) {
        my $client = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0);
        connect $client, Socket::pack_sockaddr_in($port,
            Socket::inet_aton('127.0.0.1'));
        push @clients, $client;
    }

    $self->{blackhole} = [$listener, @clients];

    return $port;
}

sub interpolate ($self, $text) {
    my ($api, $backend) = @$self{qw(api backend)};

    my %value = (
        DIR => sub { $self->{dir} },
        CA => sub { $self->ca },
        CERT => sub { $self->_good->{cert} },
        KEY => sub { $self->_good->{key} },
        API => sub { $api && $api->url },
        API_PORT => sub { $api && $api->port },
        API_TLS => sub { $api && $api->tls_url },
        API_TLS_PORT => sub { $api && $api->tls_port },
        BACKEND => sub { $backend && $backend->url },
        BACKEND_PORT => sub { $backend && $backend->port },
    );

    $text =~ s{%%(\w+?)%%}{
        my $name = $1;
        my $value = $name =~ /^PORT_(\w+)$/ ? $self->port($1)
            : $value{$name} ? $value{$name}->() : undef;
        $value // croak "nothing to put in for %%$name%%";
    }ge;

    return $text;
}


# Certificates

sub _good ($self) { return $self->{good} //= $self->cert }

sub _authority ($self, $name) {
    return $self->{authorities}{$name} //= do {
        require IO::Socket::SSL::Utils;
        require Net::SSLeay;
        my ($cert, $key) = IO::Socket::SSL::Utils::CERT_create(
            CA => 1,
            subject => {commonName => "Test CA $name"},
            key => IO::Socket::SSL::Utils::KEY_create_ec('prime256v1'),
            not_before => time - 86400,
        );
        my $file = "$self->{dir}/ca-$name.pem";
        IO::Socket::SSL::Utils::PEM_cert2file($cert, $file);
        {cert => $cert, key => $key, file => $file};
    };
}

sub ca ($self) { return $self->_authority('good')->{file} }

sub cert ($self, %opt) {
    my $ca = $self->_authority($opt{untrusted} ? 'other' : 'good');
    my @names = @{$opt{names} // [qw(localhost 127.0.0.1)]};
    my $file = sprintf '%s/cert-%d', $self->{dir}, ++$self->{certs};

    my ($cert, $key) = IO::Socket::SSL::Utils::CERT_create(
        subject => {commonName => $names[0]},
        subjectAltNames => [
            map { [/^[\d.]+$|:/ ? 'IP' : 'DNS', $_] } @names
        ],
        key => IO::Socket::SSL::Utils::KEY_create_ec('prime256v1'),
        purpose => 'server,client',
        not_before => time + ($opt{future} ? 86400 : -2 * 86400),
        not_after => time + ($opt{expired} ? -3600 : 30 * 86400),
        ($opt{self_signed} ? ()
            : (issuer_cert => $ca->{cert}, issuer_key => $ca->{key})),
    );

    IO::Socket::SSL::Utils::PEM_cert2file($cert, "$file.pem");
    IO::Socket::SSL::Utils::PEM_key2file($key, "$file.key");

    return {cert => "$file.pem", key => "$file.key", ca => $self->ca};
}


# What is started

sub api ($self, %opt) {
    my $number = ++$self->{apis};
    my ($port, $control)
        = map { $self->port("api_$number$_") } '', '_control';

    my $users = $opt{users} // [
        ['gateway', 'Canary-Gateway-Pw', 1],
        ['bob', 'Canary-Bob-Pw', 5, 'bob@example.com'],
        ['alice', 'Canary-Alice-Pw', 6],
    ];
    my $applications = $opt{applications}
        // ['93:authkey93:Canary-Secret-93'];

    my @command = ($^X, "$ROOT/t/quickblox-api", '--quit-at-eof',
        '--listen', "http://127.0.0.1:$port",
        '--control', "http://127.0.0.1:$control",
        '--application-id', $opt{application_id} // 92,
        '--auth-key', $opt{auth_key} // 'wJHd4cQSxpQGWx5',
        '--auth-secret', $opt{auth_secret} // 'jyqGNhbGxkvBTgd',
        '--api-key', $opt{api_key} // 'Canary-Api-Key-92');

    push @command, '--user', join ':', @$_ for @$users;
    push @command, '--application', $_ for @$applications;
    push @command, '--lifetime', $opt{lifetime} if $opt{lifetime};

    my $tls_port;

    if (my $cert = $opt{tls}) {
        $cert = $self->_good if !ref $cert;
        $tls_port = $self->port("api_${number}_tls");
        push @command, '--listen', "https://127.0.0.1:$tls_port"
            . "?cert=$cert->{cert}&key=$cert->{key}"
            . (defined $opt{tls_query} ? "&$opt{tls_query}" : '');
    }

    my $api = Gateway::Api->spawn([@command, @{$opt{args} // []}],
        port => $port, control => $control, tls_port => $tls_port);

    push @{$self->{children}}, $api;
    $self->{api} //= $api;

    return $api;
}

sub backend ($self, %opt) {
    my $number = ++$self->{backends};
    my ($port, $control)
        = map { $self->port("backend_$number$_") } '', '_control';

    my %conf = (port => $port, control => $control);

    $conf{keep_body} = $opt{keep_body} if $opt{keep_body};
    $conf{check} = {api => $opt{check}{control}} if $opt{check};
    $conf{private} = $opt{private} if defined $opt{private};

    if (my $cert = $opt{tls}) {
        $cert = $self->_good if !ref $cert;
        $conf{tls_port} = $self->port("backend_${number}_tls");
        @conf{qw(cert key)} = @$cert{qw(cert key)};
    }

    my $backend = Gateway::BackendControl->spawn([$^X, "-I$ROOT/t/lib",
        '-MGateway::Backend', '-e', 'Gateway::Backend::main()',
        encode_json(\%conf)], %conf);

    push @{$self->{children}}, $backend;
    $self->{backend} //= $backend;

    return $backend;
}

sub nginx ($self, $http, %opt) {
    my $nginx = Gateway::Nginx->new(
        %opt,
        gateway => $self,
        name => 'nginx' . (@{$self->{nginxes}} || ''),
        http => $http,
    );

    weaken $nginx->{gateway};
    push @{$self->{nginxes}}, $nginx;
    $nginx->start;

    return $nginx;
}

sub test_config ($self, $http, %opt) {
    my $nginx = Gateway::Nginx->new(
        %opt,
        gateway => $self,
        name => 'test',
        http => $http,
    );

    my ($ok, $output) = $nginx->test;
    $self->{said} .= $output;

    return ($ok, $output);
}

for my $name (qw(reload stop workers error_log access_log wait_log)) {
    no strict 'refs';
    *$name = sub ($self, @args) {
        my $nginx = $self->{nginxes}[-1] // croak 'nginx was not started';
        return $nginx->$name(@args);
    };
}


# Requests

sub client ($self, %opt) {
    $opt{port} //= $self->port(0);
    $opt{ca} //= $self->ca if $opt{ssl};

    return Gateway::Client->new(map { $_ => $opt{$_} }
        grep { defined $opt{$_} }
            qw(port ssl ca sni ssl_options timeout));
}

sub start ($self, %opt) {
    my $client = $self->client(%opt);
    $client->start(%opt) if !$client->{error};

    return $client;
}

sub request ($self, %opt) { return $self->start(%opt)->finish }

sub get ($self, $path, %opt) {
    return $self->request(method => 'GET', path => $path, %opt);
}

sub post ($self, $path, $body = '', %opt) {
    return $self->request(method => 'POST', path => $path, body => $body,
        %opt);
}

sub raw ($self, $bytes, %opt) {
    return $self->client(%opt)->send($bytes)->read_all($opt{timeout});
}

sub _run (@command) {
    my $errors = File::Temp->new;

    my $pid = open(my $pipe, '-|') // croak "fork: $!";

    if (!$pid) {
        $SIG{PIPE} = 'DEFAULT';
        open STDERR, '>&', $errors;
        exec { $command[0] } @command or POSIX::_exit(127);
    }

    binmode $pipe;
    my $output = do { local $/; <$pipe> } // '';
    close $pipe;

    return {exit => $? >> 8, stdout => $output,
        stderr => Gateway::Nginx::_slurp("$errors")};
}

sub curl ($self, @args) {
    return _run('curl', '-sS', '--max-time', 30 * $PATIENCE, @args);
}

sub h2 ($self, $path, %opt) {
    my $port = $opt{port} // $self->port(0);
    my $scheme = $opt{ssl} ? 'https' : 'http';
    my $headers = $opt{headers} // [];
    $headers = [map { [$_, $headers->{$_}] } sort keys %$headers]
        if ref $headers eq 'HASH';
    my $method = $opt{method} // (defined $opt{body} ? 'POST' : 'GET');

    my @args = ('-i', '--path-as-is',
        $opt{ssl} ? ('--http2', '--cacert', $self->ca)
            : '--http2-prior-knowledge',
        $method eq 'HEAD' ? '--head' : ('-X', $method));

    push @args, '-H', "QB-Token: $opt{token}" if defined $opt{token};

    # curl drops a header without a value unless it ends with a semicolon.
    push @args, '-H', length $_->[1] ? "$_->[0]: $_->[1]" : "$_->[0];"
        for @$headers;

    if (defined $opt{body}) {
        push @args, '--data-binary',
            '@' . $self->write('body-' . ++$self->{bodies}, $opt{body});
    }

    learn_request($headers, $opt{body} // '');

    my $run = $self->curl(@args, "$scheme://127.0.0.1:$port$path");
    my ($head, $body) = split /\r\n\r\n/, $run->{stdout}, 2;
    my ($line, @lines) = split /\r\n/, $head // '';
    my ($version, $status) = ($line // '') =~ m{^HTTP/(\S+) (\d+)};

    my @pairs = map { [split /:\s*/, $_, 2] } @lines;

    learn_response(\@pairs, $run->{stdout});

    return Gateway::Response->new(
        status => $status,
        version => $version,
        headers => \@pairs,
        body => $body // '',
        raw => $run->{stdout},
        complete => $run->{exit} == 0 ? 1 : 0,
        error => $run->{exit} ? $run->{stderr} : undef,
    );
}


# The end

# All that is wrong after the test, as texts.
sub _finish ($self) {
    return if $self->{finished}++;

    my @wrong;

    for my $child (@{$self->{children}}) {
        next if !$child->pid || !$child->can('secrets');
        $self->secret(eval { $child->secrets });
    }

    for my $nginx (@{$self->{nginxes}}) {
        $nginx->stop;
        push @wrong, $nginx->complaints(@{$self->{allow}});

        for my $name (qw(error_log stderr access_log)) {
            push @wrong, secrets_in("$nginx->{name} $name", $nginx->$name);
        }

        push @wrong, $self->_files($nginx);
    }

    push @wrong, secrets_in('nginx -t', $self->{said}), secrets_in_answers();

    # Of "nginx -t" as well.
    for my $report (glob "$self->{dir}/*/sanitizer.*") {
        push @wrong, Gateway::Nginx::_slurp($report) if -s $report;
    }

    $_->stop for @{$self->{children}};
    @{$self->{locks}} = ();
    delete $self->{blackhole};

    return @wrong;
}

# Further logs, and what was written in the directories of temporary files.
sub _files ($self, $nginx) {
    my @wrong;

    require File::Find;
    File::Find::find({no_chdir => 1, wanted => sub {
        return if !-f || m{/(?:error|access|stderr)\.log$|/nginx\.conf$};
        push @wrong, secrets_in_file($_, Gateway::Nginx::_slurp($_));
    }}, $nginx->dir);

    return @wrong;
}

sub _remove ($self) {
    return if $self->{owner} != $$ || !-d $self->{dir};

    if ($ENV{T_KEEP}) {
        Test::More::diag("kept: $self->{dir}");

    } else {
        require File::Path;
        File::Path::remove_tree($self->{dir}, {safe => 0});
    }

    return;
}

sub _tell (@wrong) {
    @wrong = (@wrong[0 .. 19], '...') if @wrong > 20;
    Test::More::diag(join "\n", @wrong);

    return;
}

sub done ($self) {
    my @wrong = $self->_finish;

    Test::More::ok(!@wrong, 'no alerts, crashes, reports or secrets in logs')
        or _tell(@wrong);

    $self->_remove;

    Test::More::done_testing() if !Test::More->builder->has_plan;

    return;
}

# For a test that never came to done(): true if something was wrong.
sub _abandon ($self) {
    return 0 if $self->{owner} != $$ || $self->{finished};

    my @wrong = eval { $self->_finish };
    push @wrong, $@ if $@;

    _tell(@wrong) if @wrong;
    $self->_remove;

    return @wrong > 0;
}

END {
    # Waiting for children changes the exit code, too.
    my $code = $?;

    $_->_abandon && ($code ||= 1) for @all;
    $? = $code;
}

1;
