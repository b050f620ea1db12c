package Bench;

# The rig of "make bench": the nginxes and the peers that are compared, a
# backend and an API that cost little, and what measures them.  The gateways
# have a core of their own, everything else shares the others.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Carp qw(croak);
use Cwd ();
use File::Basename ();
use Gateway ();
use POSIX ();

our $TOKEN = '0123456789' x 4;

my $here = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/..');
my $build = Cwd::abs_path($ENV{BENCH_BUILD} // "$here/../build/bench");

my ($cores) = map { /^(\d+)/ ? $1 : 1 } `nproc --all`;
my $gateway_core = $cores - 1;
my $other_cores = $cores > 2 ? '0-' . ($cores - 2) : '0';

sub gateway_core { return $gateway_core }
sub all_cores { return '0-' . ($cores - 1) }

my $modules = $ENV{BENCH_MODULES} // '/usr/lib/nginx/modules';

my @programs;

sub new ($class) {
    system "taskset -pc $other_cores $$ > /dev/null";
    POSIX::nice(-5) if $> == 0;

    my $self = bless {t => Gateway->new}, $class;

    $self->_stand_ins;

    return $self;
}

sub t ($self) { return $self->{t} }
sub port ($self, $name) { return $self->{t}->port($name) }

sub under ($core) { return ('taskset', '-c', $core) }

# An nginx by its name; level warn, as else each connection's end is logged.
sub nginx ($self, $name, $http, %opt) {
    my $core = delete $opt{core} // $gateway_core;

    $http = "access_log off;\nkeepalive_requests 1000000000;\n$http";

    %opt = (
        name => $name,
        level => 'warn',
        events => 'worker_connections 16384;',
        under => [under($core)],
        %opt,
    );

    if (!$self->{callgrind}) {
        $self->{nginx}{$name} = $self->{t}->nginx($http, %opt);
        return;
    }

    my $nginx = Gateway::Nginx->new(%opt, gateway => $self->{t},
        http => $http, under => [@{$self->{callgrind}},
            "--callgrind-out-file=" . $self->{t}->dir . "/$name.callgrind"]);

    $self->program($name, $nginx->{listens}[0],
        $nginx->command('-g', 'master_process off;'));

    return;
}

# Another program, in the foreground; it must accept connections on the port.
sub program ($self, $name, $port, @command) {
    my $pid = fork // croak "fork: $!";

    if (!$pid) {
        open STDOUT, '>', $self->{t}->dir . "/$name.log";
        open STDERR, '>&', \*STDOUT;
        exec @command or POSIX::_exit(127);
    }

    push @programs, $pid;

    $self->{t}->wait_for(sub {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
    }, $name, 60);

    $self->{program}{$name} = $pid;

    return;
}

# Also where the script ends early: what has a Gateway ends with it.
sub end_programs {
    kill TERM => @programs;
    waitpid $_, 0 for splice @programs;

    return;
}

END {
    local $?;
    end_programs();
}

sub done ($self) {
    end_programs();

    my @wrong = $self->{t}->_finish;
    $self->{t}->_remove;

    print STDERR "$_\n" for @wrong;

    return !@wrong;
}


# What is behind the gateways

# The API counts its requests by stub_status; its answers are QuickBlox's in
# what the module looks at.  A token is valid whatever it is; POST makes one.
sub _stand_ins ($self) {
    my $session = sub ($token) {
        return '{"session":{"application_id":92,"token":"' . $token
            . '","user_id":7}}';
    };

    my $answers = <<"END";
        default_type application/json;
        if (\$request_method = POST) {
            return 201 '@{[$session->('$request_id')]}';
        }
        return 200 '@{[$session->('$http_qb_token')]}';
END

    my $slow = $self->has('lua') ? <<"END" : '';
lua_shared_dict calls 64k;
server {
    listen 127.0.0.1:%%PORT_slow%% backlog=65535;
    location = /most {
        content_by_lua_block {
            ngx.print(ngx.shared.calls:get("most") or 0)
            ngx.shared.calls:set("most", 0)
        }
    }
    location / {
        content_by_lua_block {
            local calls = ngx.shared.calls
            local now = calls:incr("now", 1, 0)
            if now > (calls:get("most") or 0) then
                calls:set("most", now)
            end
            ngx.sleep(0.05)
            calls:incr("now", -1)
            ngx.exec("/answer")
        }
    }
    location = /answer {
        internal;
$answers    }
}
END

    $self->nginx(api => <<"END" . $slow,
server {
    listen 127.0.0.1:%%PORT_api%% backlog=65535;
    location / {
$answers    }
}
server {
    listen 127.0.0.1:%%PORT_count%%;
    location / {
        stub_status;
    }
}
END
        core => $other_cores, module => 0, main => $self->load('lua'));

    # /expired tells what token it got, and that it is expired if it is the
    # one of X-Expired.
    $self->nginx(backend => <<'END', core => $other_cores, module => 0);
server {
    listen 127.0.0.1:%%PORT_backend%% backlog=65535;
    default_type application/json;
    location / {
        return 200 "0123456789\n";
    }
    location = /missing {
        return 404 "no such thing\n";
    }
    location ~ /expired$ {
        if ($http_qb_token = $http_x_expired) {
            return 401 '{"errors":["Required session does not exist"]}';
        }
        add_header X-Token $http_qb_token;
        return 200 "0123456789\n";
    }
}
END

    return;
}

# How many calls the API has had.
sub calls ($self) {
    my $text = $self->{t}->get('/', port => $self->port('count'))->body;
    my ($requests) = $text =~ /^\s*\d+\s+\d+\s+(\d+)/m
        or croak "no count: $text";

    return $requests - ++$self->{counted};
}

# How many calls the slow API had at once at most, since this was asked.
sub most_calls ($self) {
    return $self->{t}->get('/most', port => $self->port('slow'))->body;
}


# Modules of others

my %module = (
    lua => [qw(ndk_http_module ngx_http_lua_module)],
    njs => ['ngx_http_js_module'],
);

# They are of Debian's nginx, and fit no other one.
sub has ($self, $name) {
    return $self->{has}{$name} //= do {
        my ($ok, $said) = $self->{t}->test_config('', module => 0,
            main => load_module($name));
        print STDERR "no rows with $name: $said" if !$ok;
        $ok;
    };
}

sub load_module ($name) {
    return join '', map { "load_module $modules/$_.so;\n" } @{$module{$name}};
}

sub load ($self, $name) {
    return $self->has($name) ? load_module($name) : '';
}

sub built ($self, $name) { return "$build/$name" }


# Configurations

# What every gateway has.
sub upstreams {
    return <<'END';
upstream backend {
    server 127.0.0.1:%%PORT_backend%%;
    keepalive 64;
    keepalive_requests 1000000000;
}
upstream api {
    server 127.0.0.1:%%PORT_api%%;
    keepalive 64;
    keepalive_requests 1000000000;
}
upstream slow {
    server 127.0.0.1:%%PORT_slow%%;
    keepalive 64;
    keepalive_requests 1000000000;
}
proxy_http_version 1.1;
END
}

sub application ($self, $name, $zone, @more) {
    my $more = join "\n    ", @more;
    my $api = $more =~ /^api / ? '' : 'api http://api;';

    return <<"END";
quickblox_application $name {
    $api
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone $zone;
    $more
}
END
}

# A location that passes on, with what makes it a gateway.
sub location ($path, @lines) {
    return join "\n", "location $path {", map({ "    $_" } @lines,
        'proxy_set_header Connection "";', 'proxy_pass http://backend;'),
        "}\n";
}

sub server ($name, @locations) {
    return join "\n", 'server {', "listen 127.0.0.1:%%PORT_$name%%"
        . ' backlog=65535;', @locations, "}\n";
}


# Measuring

# Nanoseconds that processes have run: sum_exec_runtime of the scheduler,
# which utime and stime are made from in ticks.
sub ran (@pids) {
    my $sum = 0;

    for my $pid (@pids) {
        open my $file, '<', "/proc/$pid/schedstat"
            or croak "/proc/$pid/schedstat: $!";
        $sum += (split ' ', readline $file)[0];
    }

    return $sum;
}

# One exact number of requests: {statuses => {200 => n}, median, p99, max,
# all (microseconds), cpu (of the gateway, per request, microseconds)}.
sub send_requests ($self, $name, $path, %opt) {
    my $port = $self->port($opt{port} // $name);
    my @pids = $self->pids($name);
    my $before = ran(@pids);

    my @command = ($self->built('send'), $port, $path,
        $opt{connections} // 1, $opt{requests}, $opt{first} // 1,
        $opt{header} // '');

    open my $pipe, '-|', @command or croak "$command[0]: $!";
    my $line = readline $pipe;
    close $pipe or croak "@command failed";

    my %result = $line =~ /\b([a-z]\w*)=(\d+)/g;
    my %statuses = $line =~ /\b(\d+)=(\d+)/g;

    return {%result, statuses => \%statuses,
        cpu => (ran(@pids) - $before) / 1000 / $opt{requests}};
}

sub pids ($self, $name) {
    return @{$self->{workers}{$name} //= [$self->{nginx}{$name}
        ? $self->{nginx}{$name}->workers : $self->{program}{$name}]};
}

# wrk for so many seconds: {cpu, busy (the share of the time that the gateway
# ran), requests, seconds}.
sub load_for ($self, $name, $seconds, %opt) {
    my @pids = $self->pids($name);

    my @command = ('wrk', '-t1', '-c' . ($opt{connections} // 32),
        "-d${seconds}s", '--timeout', '60s', '-s', "$here/requests.lua",
        'http://127.0.0.1:' . $self->port($opt{port} // $name)
            . ($opt{path} // '/'),
        '--', $opt{tokens} // 1, $opt{paths} // 0, $opt{header} // '',
        $opt{random} // ());

    # again where the machine stood still
    for (1 .. 5) {
        my $before = ran(@pids);
        my $start = Time::HiRes::time();

        open my $pipe, '-|', @command or croak "wrk: $!";
        my $output = do { local $/; readline $pipe };
        close $pipe or croak "@command failed";

        my $ran = ran(@pids) - $before;
        my $time = Time::HiRes::time() - $start;

        my ($requests, $refused, $errors)
            = $output =~ /^answers (\d+) (\d+) (\d+)$/m
            or croak "wrk said: $output";

        my $expected = $opt{refused} ? $requests : 0;

        croak "$name: $requests requests, $refused answers of 400 or more, "
            . "$errors errors" if $refused != $expected || $errors;

        return {cpu => $ran / 1000 / $requests, busy => $ran / 1e9 / $time,
            requests => $requests, seconds => $time} if $requests >= 100;
    }

    croak "$name answers nothing";
}

sub run_tool ($name, @arguments) {
    open my $pipe, '-|', "$here/$name", @arguments or croak "$name: $!";
    my $said = readline $pipe;
    close $pipe or croak "$name failed";
    chomp $said;

    return $said;
}

# A file of results.
sub save ($name, $text) {
    mkdir "$here/results";

    open my $file, '>', "$here/results/$name" or croak "$name: $!";
    print $file $text;
    close $file or croak "$name: $!";

    return;
}

sub median (@n) {
    @n = sort { $a <=> $b } @n;

    return ($n[$#n / 2] + $n[@n / 2]) / 2;
}

1;
