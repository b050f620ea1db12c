package Gateway::Nginx;

# One nginx of a test.  See "nginx" in Gateway.pm.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Carp qw(croak);
use Gateway::Client qw($PATIENCE);
use Gateway::Secrets qw(learn_configuration);
use IO::Socket::INET ();
use POSIX ();
use Time::HiRes qw(time);

# gateway: the test; name: its own directory; http: the text of the block.
sub new ($class, %opt) {
    my $level = $ENV{QUICKBLOX_DEBUG} ? 'debug' : 'info';
    my $self = bless {workers => 1, level => $level, %opt, owner => $$},
        $class;

    $self->{dir} = "$self->{gateway}{dir}/$self->{name}";
    mkdir $self->{dir} or die "$self->{dir}: $!" if !-d $self->{dir};
    mkdir "$self->{dir}/logs";

    $self->configure($self->{http});

    return $self;
}

my $binary = $ENV{NGINX} // '/usr/sbin/nginx';

sub binary { return $binary }

# Whether it was configured with an option.
sub has ($option) { return `$binary -V 2>&1` =~ /\Q$option\E\b/ }

sub dir ($self) { return $self->{dir} }

sub configure ($self, $http) {
    my $gateway = $self->{gateway};
    my $dir = $self->{dir};

    $self->{http} = $http;

    my $module = $self->{module} // 1;
    $module = $gateway->module if $module eq '1';
    my $load = $module ? "load_module \"$module\";" : '';

    my $root = $> == 0 ? 'user root;' : '';
    my $main = $self->{main} // '';
    my $events = $self->{events} // 'worker_connections 2048;';
    my $access = $http =~ /^\s*access_log\b/m ? ''
        : "access_log $dir/access.log;";

    my $text = $gateway->interpolate(<<"END");
$load
$root
daemon off;
worker_processes $self->{workers};
error_log $dir/error.log $self->{level};
pid $dir/nginx.pid;
$main

events {
    $events
}

http {
    $access
    client_body_temp_path $dir/client_body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;

$http
}
END

    $self->{listens} = [$text =~ /^\s*listen\s+(?:[\d.]+:|\*:)?(\d+)\b/mg];

    open my $file, '>', "$dir/nginx.conf" or die "$dir/nginx.conf: $!";
    print $file $text;
    close $file;

    learn_configuration($text, $self->{env} // {});

    return;
}

sub command ($self, @more) {
    my $dir = $self->{dir};

    return (@{$self->{under} // []}, $self->_valgrind, binary(), '-p',
        "$dir/", '-c', "$dir/nginx.conf", @more);
}

# The processes' reports are where a sanitizer's would be.  Not by
# VALGRIND_OPTS, as nginx gives a new binary no environment.
sub _valgrind ($self) {
    my @valgrind = split ' ', $ENV{QUICKBLOX_VALGRIND} // '';

    return @valgrind ? (@valgrind, '--error-exitcode=0',
        "--log-file=$self->{dir}/sanitizer.%p") : ();
}

# Runs in a child that is to become nginx.
sub _environment ($self) {
    $SIG{$_} = 'DEFAULT' for qw(PIPE INT TERM);

    my $asan = "log_path=$self->{dir}/sanitizer:"
        . 'detect_leaks=0:abort_on_error=0';

    # To nginx itself, NGINX is the list of sockets that it inherits.
    delete $ENV{NGINX};

    # Only nginx is built for what is preloaded.
    $ENV{LD_PRELOAD} = $ENV{NGINX_PRELOAD} if $ENV{NGINX_PRELOAD};

    $ENV{ASAN_OPTIONS} = join ':', $asan, $ENV{ASAN_OPTIONS} // ();
    $ENV{UBSAN_OPTIONS} = join ':', "log_path=$self->{dir}/sanitizer",
        'print_stacktrace=1', $ENV{UBSAN_OPTIONS} // ();

    my $env = $self->{env} // {};
    for (keys %$env) {
        defined $env->{$_} ? ($ENV{$_} = $env->{$_}) : delete $ENV{$_};
    }

    return;
}

# nginx -t: whether the configuration is good, and all that was said.
my $tests = 0;

sub test ($self, @arguments) {
    @arguments = '-t' if !@arguments;

    # Under valgrind each takes seconds, and there are two thousand of them.
    local $ENV{QUICKBLOX_VALGRIND} if $tests++ % 10;

    my $pid = open(my $pipe, '-|') // die "fork: $!";

    if (!$pid) {
        open STDERR, '>&', \*STDOUT;
        $self->_environment;
        exec $self->command('-e', 'stderr', @arguments)
            or POSIX::_exit(127);
    }

    my $output = do { local $/; <$pipe> } // '';
    close $pipe;

    # An ordinary user may have a low limit, which is no matter here.
    $output =~ s/^.*worker_connections exceed open file resource .*\n//mg;

    return ($? == 0, $output);
}

sub start ($self) {
    my $dir = $self->{dir};

    my $pid = fork // die "fork: $!";

    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$dir/stderr.log";
        open STDERR, '>>', "$dir/stderr.log";
        $self->_environment;
        exec $self->command('-e', "$dir/error.log") or POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    my $deadline = time + 20 * $PATIENCE;

    for my $port (@{$self->{listens}}) {
        until (IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $port, Timeout => 1))
        {
            if (waitpid($pid, POSIX::WNOHANG()) == $pid) {
                delete $self->{pid};
                croak "nginx did not start:\n" . $self->error_log
                    . $self->stderr;
            }

            croak "nginx accepts nothing on port $port:\n"
                . $self->error_log if time > $deadline;

            select undef, undef, undef, 0.003;
        }
    }

    $self->_until("worker processes", 20,
        sub { $self->workers >= $self->_expected });

    return $self;
}

sub _expected ($self) {
    return $self->{workers} =~ /^\d+$/ ? $self->{workers} : 1;
}

sub _until ($self, $what, $timeout, $condition) {
    my $deadline = time + $timeout * $PATIENCE;

    while (!$condition->()) {
        croak "no $what after $timeout s:\n" . $self->error_log
            if time > $deadline;
        select undef, undef, undef, 0.003;
    }

    return 1;
}

sub pid ($self) { return $self->{pid} }

sub running ($self) {
    return 0 if !$self->{pid};

    if (waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid}) {
        delete $self->{pid};
        return 0;
    }

    return 1;
}

# Process ids of the workers that take new connections; with "all" of those
# too that are shutting down.
sub workers ($self, %opt) {
    my $master = $opt{master} // $self->{pid} // return;
    my @workers;

    for my $stat (glob '/proc/[0-9]*/stat') {
        open my $file, '<', $stat or next;
        my $text = do { local $/; <$file> } // next;
        my ($pid, $state, $parent)
            = $text =~ /^(\d+) \(.*\) (\S) (\d+)/s or next;
        next if $parent != $master || $state eq 'Z';

        my $title = _title($pid) // next;
        next if $title !~ /worker process/;
        next if $title =~ /shutting down/ && !$opt{all};
        push @workers, $pid;
    }

    @workers = sort { $a <=> $b } @workers;

    return @workers;
}

# Under valgrind the title that nginx gives itself does not show: a worker has
# an event loop, and sockets that listen until it shuts down.
sub _title ($pid) {
    open my $file, '<', "/proc/$pid/cmdline" or return;
    my $title = do { local $/; <$file> };

    return $title if !$ENV{QUICKBLOX_VALGRIND};

    my %open = map { (readlink($_) // '') => 1 } glob "/proc/$pid/fd/*";
    return '' if !$open{'anon_inode:[eventpoll]'};

    open my $sockets, '<', "/proc/$pid/net/tcp" or return;

    return 'worker process' if grep {
        my @field = split;
        $field[3] eq '0A' && $open{"socket:[$field[9]]"}
    } <$sockets>;

    return 'worker process is shutting down';
}

# SIGHUP, with another configuration if one is given.  Waits for the new
# workers and, unless keep => 1, for the end of the old ones.  False if nginx
# refused the configuration.
sub reload ($self, $http = undef, %opt) {
    my %old = map { $_ => 1 } $self->workers(all => 1);
    my $from = length $self->error_log;

    $self->configure($http) if defined $http;

    kill HUP => $self->{pid};

    my $refused = sub { substr($self->error_log, $from) =~ /\[emerg\]/ };

    $self->_until('new workers', $opt{timeout} // 20, sub {
        return 1 if $refused->();
        return 0 if $self->{level} =~ /^(?:debug|info|notice)$/
            && substr($self->error_log, $from) !~ /reconfiguring/;
        return $self->_expected <= grep { !$old{$_} } $self->workers;
    });

    return 0 if $refused->();
    return 1 if $opt{keep};

    $self->_until('end of the old workers', $opt{timeout} // 20,
        sub { !grep { $old{$_} } $self->workers(all => 1) });

    return 1;
}

sub signal ($self, $signal) { return kill $signal => $self->{pid} }

# QUIT, and KILL if that is not enough: then false.
sub stop ($self, $timeout = 15) {
    my $pid = $self->{pid};

    return 1 if !$pid || $self->{owner} != $$;

    kill QUIT => $pid;

    my $deadline = time + $timeout * $PATIENCE;

    while (waitpid($pid, POSIX::WNOHANG()) != $pid) {
        if (time > $deadline) {
            kill KILL => $self->workers(all => 1), $pid;
            waitpid $pid, 0;
            delete $self->{pid};
            $self->{late} = 1;
            return 0;
        }

        select undef, undef, undef, 0.003;
    }

    delete $self->{pid};

    return 1;
}

# At the end of a test that failed already.
sub kill_all ($self) {
    return if !$self->{pid} || $self->{owner} != $$;

    my @workers = $self->workers(all => 1);
    kill TERM => $self->{pid};

    for (1 .. 500 * $PATIENCE) {
        last if waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid};
        select undef, undef, undef, 0.01;
        next if $_ < 500 * $PATIENCE;
        kill KILL => $self->{pid}, @workers;
        waitpid $self->{pid}, 0;
    }

    delete $self->{pid};

    return;
}

sub _slurp ($file) {
    open my $handle, '<', $file or return '';
    local $/;

    return <$handle> // '';
}

sub error_log ($self) { return _slurp("$self->{dir}/error.log") }
sub access_log ($self) { return _slurp("$self->{dir}/access.log") }
sub stderr ($self) { return _slurp("$self->{dir}/stderr.log") }

# Waits until the error log matches; returns what the pattern captured.
sub wait_log ($self, $pattern, $timeout = 10) {
    my @found;

    $self->_until("log line $pattern", $timeout,
        sub { @found = $self->error_log =~ $pattern });

    return @found;
}

# Everything wrong that the logs tell of.
sub complaints ($self, @allowed) {
    my @wrong;

    for my $line (split /\n/, $self->error_log . $self->stderr) {
        next if $line !~ /\[(?:alert|emerg)\]|exited on signal
            |Sanitizer|runtime\ error/x;
        next if grep { $line =~ $_ } @allowed;
        push @wrong, $line;
    }

    push @wrong, 'nginx did not end at QUIT' if $self->{late};

    return @wrong;
}

sub DESTROY ($self) {
    # Even a local $? would change the exit code then.
    return if ${^GLOBAL_PHASE} eq 'DESTRUCT';

    local ($?, $!, $@);
    $self->kill_all;

    return;
}

1;
