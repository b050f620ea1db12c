package Gateway::Control;

# A child process with control calls in JSON: what the stand-in API and the
# recording backend have in common.  See "The API" and "The backend" in
# Gateway.pm.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Carp qw(croak);
use Gateway::Client qw($PATIENCE);
use MIME::Base64 qw(decode_base64 encode_base64);
use POSIX ();
use Time::HiRes qw(time);

# Starts the command and waits for the line that says it is ready.
sub spawn ($class, $command, %self) {
    pipe my $out_read, my $out_write or die "pipe: $!";
    pipe my $in_read, my $in_write or die "pipe: $!";

    my $pid = fork // die "fork: $!";

    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(PIPE INT TERM);
        open STDOUT, '>&', $out_write;
        open STDIN, '<&', $in_read;
        exec { $command->[0] } @$command or POSIX::_exit(127);
    }

    close $out_write;
    close $in_read;

    my $line = '';
    my $read = '';
    vec($read, fileno $out_read, 1) = 1;

    if (select $read, undef, undef, 20) {
        $line = readline($out_read) // '';
    }

    if ($line !~ /^listening/) {
        kill KILL => $pid;
        waitpid $pid, 0;
        croak "$command->[0] did not start: $line";
    }

    return bless {%self, pid => $pid, stdin => $in_write, out => $out_read,
        owner => $$}, $class;
}

sub port ($self) { return $self->{port} }
sub url ($self) { return "http://127.0.0.1:$self->{port}" }
sub pid ($self) { return $self->{pid} }

sub stop ($self) {
    return if $self->{owner} != $$ || !$self->{pid};

    delete $self->{client};
    close delete $self->{stdin};
    kill TERM => $self->{pid};
    waitpid $self->{pid}, 0;
    delete $self->{pid};

    return;
}

sub DESTROY ($self) {
    # Even a local $? would change the exit code then.
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT';

    local ($?, $!, $@);
    $self->stop;

    return;
}

# One control call; dies if it is refused.
sub control ($self, $name, $data = undef) {
    my $res;

    # A connection kept since the last call may be gone.
    for my $try (1, 2) {
        $self->{client} //= Gateway::Client->new(
            port => $self->{control}, timeout => 30, control => 1);

        $res = $self->{client}->request(
            path => "/-/$name",
            defined $data ? (method => 'POST', json => $data)
                : (method => 'GET'),
        );

        last if $res->status;
        delete $self->{client};
    }

    my $json = $res->json;

    croak "control call \"$name\" failed: "
        . ($json ? $json->{error} : $res->error // $res->raw)
        if $res->status != 200;

    return $json;
}

# Bodies and raw answers are bytes here, base64 on their way.
sub how ($self, %how) {
    $how{raw} = encode_base64($how{raw}, '') if defined $how{raw};
    $how{body_base64} = encode_base64(delete $how{body}, '')
        if defined $how{body};

    return \%how;
}

sub set ($self, %set) { return $self->control(set => \%set) }

sub heal ($self) { return $self->control(heal => {}) }

# How many answers "hold" keeps back.
sub held ($self) { return $self->control('held')->{held} }

# Lets them go, or the first so many.
sub release ($self, $count = undef) {
    return $self->control(release => {count => $count})->{released};
}

sub wait_held ($self, $count, $timeout = 10) {
    return $self->_wait($timeout, "$count held answers",
        sub { $self->held >= $count });
}

sub _wait ($self, $timeout, $what, $condition) {
    my $deadline = time + $timeout * $PATIENCE;

    while (!$condition->()) {
        croak "no $what after $timeout s" if time > $deadline;
        select undef, undef, undef, 0.005;
    }

    return 1;
}

# {accepted, open}
sub connections ($self) { return $self->control('connections') }

# Ports closed, state kept; further connections are refused.
sub close_port ($self) { return $self->control(close => {}) }
sub open_port ($self) { return $self->control(open => {}) }

# What was recorded, oldest first, narrowed by an endpoint or a path.
sub requests ($self, $of = undef) {
    my @requests = @{$self->control('calls')->{requests}};

    for (@requests) {
        $_->{body} = decode_base64(delete $_->{body_base64});
        bless $_, 'Gateway::Recorded';
    }

    @requests = grep {
        ($_->{endpoint} // '') eq $of || $_->{path} eq $of
    } @requests if defined $of;

    return @requests;
}

package Gateway::Api;

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use parent -norequire, 'Gateway::Control';

sub tls_port ($self) { return $self->{tls_port} }
sub tls_url ($self) { return "https://127.0.0.1:$self->{tls_port}" }

# How often an endpoint was called ("GET /session.json"); all without one.
sub calls ($self, $endpoint = undef) {
    my $calls = $self->control('counts')->{calls};

    return $calls->{$endpoint} // 0 if defined $endpoint;

    my $all = 0;
    $all += $_ for values %$calls;

    return $all;
}

sub counts ($self) { return $self->control('counts')->{calls} }

sub reset_calls ($self) { return $self->control('reset-calls' => {}) }

sub wait_calls ($self, $endpoint, $count = 1, $timeout = 10) {
    return $self->_wait($timeout, "$count calls of $endpoint",
        sub { $self->calls($endpoint) >= $count });
}

sub expire ($self, $token) {
    return $self->control(expire => {token => $token})->{expired};
}

sub expire_user ($self, $user_id) {
    return $self->control(expire => {user_id => $user_id})->{expired};
}

sub expire_all ($self) {
    return $self->control(expire => {all => 1})->{expired};
}

# The sessions grow older.
sub advance ($self, $seconds) {
    return $self->control(advance => {seconds => $seconds});
}

# The clock of the API goes wrong.
sub skew ($self, $seconds) {
    return $self->control(advance => {seconds => $seconds, clock => 1});
}

# fail(endpoint => 'GET /session.json', status => 500, times => 1)
sub fail ($self, %how) {
    return $self->control(fail => $self->how(endpoint => '*', %how));
}

# The token of a new session that nobody had to ask for.
sub session ($self, %session) {
    return $self->control(session => \%session)->{token};
}

sub sessions ($self) { return @{$self->control('sessions')->{sessions}} }

sub user ($self, %user) { return $self->control(user => \%user) }

sub secrets ($self) { return @{$self->control('secrets')->{secrets}} }

package Gateway::BackendControl;

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use parent -norequire, 'Gateway::Control';

# answer('/path', status => 404, body => '...'); "*" is any path; the last
# one given wins.
sub answer ($self, $path, %how) {
    return $self->control(answer => $self->how(path => $path, %how));
}

# check($api): QB-Token must be live there; check(undef): anything goes;
# check(tokens => [...]): must be one of these.
sub check ($self, @check) {
    my %check = @check == 1
        ? (api => $check[0] && $check[0]{control}) : @check;

    return $self->control(check => \%check);
}

sub reset ($self) { return $self->control(reset => {}) }

sub hits ($self, $path = undef) {
    my $hits = $self->control('hits')->{hits};

    return $hits->{$path} // 0 if defined $path;

    my $all = 0;
    $all += $_ for values %$hits;

    return $all;
}

sub wait_hits ($self, $path, $count = 1, $timeout = 10) {
    return $self->_wait($timeout, "$count requests of $path",
        sub { $self->hits($path) >= $count });
}

sub last_request ($self, $path = undef) {
    return ($self->requests($path))[-1];
}

# A request as a server recorded it: method, uri, path, version, headers, body,
# body_length, body_sha256, connection, head (the bytes of its head).
package Gateway::Recorded;

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

sub header ($self, $name) { return ($self->header_all($name))[0] }

sub header_all ($self, $name) {
    return map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{$self->{headers}};
}

1;
