package Bench::Checks;

# The figures of "make bench" that are not CPU time of a known session.  Each
# function returns lines of [what was measured, figure, bound].

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Bench;
use List::Util qw(min);

# The API takes so many milliseconds where it is slow.
my $SLOW = 50;

# A zone is filled in parts of so many.
my $PART = 200_000;

my $BURST = 5_000;
my $FLOOD = 10_000;

# Fills the zone of Bench::Rows::sessions(), and asks for all of them again:
# what was evicted makes another call.
sub zone ($bench, $sessions, $progress) {
    # what all have cost, and how many calls they have made
    my $ask = sub {
        my ($calls, $cpu) = ($bench->calls, 0);

        for (my $first = 1; $first <= $sessions; $first += $PART) {
            my $n = min($PART, $sessions - $first + 1);

            $cpu += $n * answered($bench->send_requests(sessions => '/fill',
                connections => 64, requests => $n, first => $first,
                header => 'QB-Token: %'), 200 => $n)->{cpu};
            $progress->($first + $n - 1);
        }

        return ($bench->calls - $calls, $cpu);
    };

    my (undef, $cpu) = $ask->();
    my ($evicted) = $ask->();

    my $size = 1024 * Bench::Rows::zone_size($sessions);

    return (
        ['bytes of zone for a client session, everything counted',
            sprintf('%.1f', $size / $sessions), '96'],
        ["share evicted of $sessions such sessions",
            sprintf('%.4f %%', 100 * $evicted / $sessions), '0.1 %'],
        ['CPU time of a cold token: one API call, no upstream',
            sprintf('%.1f us', $cpu / $sessions)],
    );
}

# Many at once that need one session nobody knows yet, and as many that need
# none.  No upstream is asked, which would be most of it.
sub burst ($bench) {
    return if !$bench->has('lua');

    my @apps = map { $bench->application("a$_" => "z$_ 1m",
        'api http://slow;', 'lock_timeout 30s;') } 1 .. 2;

    my (@lines, @median);

    for my $workers (1, 2) {
        my $name = "burst_$workers";

        $bench->nginx($name, Bench::upstreams() . join('', @apps)
            . Bench::server($name,
                "location / {\nempty_gif;\n}",
                "location /client {\nquickblox a1;\nempty_gif;\n}",
                "location /user {\nquickblox a2;\n"
                    . "quickblox_session user;\nempty_gif;\n}")
            =~ s/(?<=backlog=65535)/ reuseport/r,
            workers => $workers,
            $workers > 1 ? (core => Bench::all_cores()) : ());

        my $free = at_once($bench, $name, '/');

        for (['/client', 'cold token'], ['/user', "gateway's session"])
        {
            my ($path, $what) = @$_;
            my $calls = $bench->calls;
            my $result = at_once($bench, $name, $path);

            $what = "$BURST at once, $what, $workers worker"
                . ($workers > 1 ? 's' : '');

            push @lines,
                ["$what: API calls", $bench->calls - $calls, 1],
                ["$what: median, longest", both($result)],
                ["$what: above those without, median",
                    ms($result->{median} - $free->{median}),
                    sprintf '%d ms', $SLOW + 100 + ($workers > 1 ? 50 : 0)];
        }

        push @lines, ["$BURST at once without a session, $workers worker"
            . ($workers > 1 ? 's' : '') . ': median, longest', both($free)];
    }

    return @lines;
}

sub at_once ($bench, $name, $path) {
    my $result = $bench->send_requests($name, $path, connections => $BURST,
        requests => $BURST, header => "QB-Token: $Bench::TOKEN");

    return answered($result, 200 => $BURST);
}

# A request whose session the upstream calls expired: how much longer it takes
# than one whose session is accepted, and what login and upstream take alone.
sub replay ($bench) {
    $bench->nginx(replay => Bench::upstreams()
        . $bench->application(chat => 'replay 1m')
        . Bench::server(replay => Bench::location('/', 'quickblox chat;',
            'quickblox_session user;')));

    my $port = $bench->port('replay');

    # the token that the upstream gets
    my $token = sub {
        return $bench->t->get('/expired', port => $port)->header('X-Token');
    };

    my %time;

    for (1 .. 12) {
        my $old = $token->();

        my $time = sub ($what, $name, $path, $header) {
            push @{$time{$what}}, answered($bench->send_requests($name, $path,
                requests => 1, header => $header), 200 => 1)->{max};
        };

        $time->(login => 'api', '/session.json', "QB-Token: $old");
        $time->(upstream => 'backend', '/expired', "QB-Token: $old");
        $time->(hit => 'replay', '/expired', 'X-Expired: none');
        $time->(replay => 'replay', '/expired', "X-Expired: $old");

        die "nothing was replayed\n" if $token->() eq $old;
    }

    # what else the machine does only ever adds
    $_ = min(@$_) for values %time;

    return (
        ['a replay takes longer than a hit by', ms($time{replay}
            - $time{hit})],
        ['of that login and upstream, asked directly', ms($time{login}) . ', '
            . ms($time{upstream})],
        ['a replay: our own time', ms($time{replay} - $time{hit}
            - $time{login} - $time{upstream}), '1 ms'],
    );
}

# As many tokens that nobody knows, at once.
sub flood ($bench) {
    return if !$bench->has('lua');

    # a quarter of the connections is for calls, and fewer than can wait to be
    # accepted
    $bench->nginx(flood => Bench::upstreams()
        . $bench->application(chat => 'flood 10m', 'api http://slow;')
        . Bench::server(flood =>
            "location / {\nquickblox chat;\nempty_gif;\n}"),
        events => 'worker_connections 14000;');

    my $memory = sub ($name) {
        my ($pid) = $bench->pids('flood');
        open my $file, '<', "/proc/$pid/status" or die "/proc/$pid: $!\n";
        my %status = map { /^(\w+):\s*(\d+) kB/ ? ($1, $2) : () }
            readline $file;
        return 1024 * $status{$name};
    };

    my @connections = (connections => $FLOOD, requests => $FLOOD);

    $bench->send_requests(flood => '/', requests => 10, first => 1_000_000,
        header => 'QB-Token: %');
    $bench->most_calls;

    my ($rss, $calls) = ($memory->('VmRSS'), $bench->calls);
    my $cold = $bench->send_requests(flood => '/', @connections,
        header => 'QB-Token: %');

    return (
        ["$FLOOD cold tokens at once, API of $SLOW ms: refused",
            $FLOOD - ($cold->{statuses}{200} // 0), 0],
        ['of them: API calls, at once at most', ($bench->calls - $calls)
            . ', ' . $bench->most_calls],
        ['of them: median, longest', both($cold)],
        ['of them: memory of a request that waits',
            int(($memory->('VmHWM') - $rss) / $FLOOD) . ' bytes'],
    );
}

# Tokens that are used at random, trusted for two seconds: calls a second, as
# bench/fleet has them for one gateway.
sub fleet ($bench, $seconds) {
    my ($users, $valid) = (10_000, 2);

    $bench->nginx(fleet => Bench::upstreams()
        . $bench->application(chat => 'fleet 10m', "cache_valid ${valid}s;")
        . Bench::server(fleet => Bench::location('/', 'quickblox chat;')));

    my @load = (tokens => $users, header => 'QB-Token: %', random => 1);

    $bench->load_for(fleet => 4 * $valid, @load);

    my $calls = $bench->calls;
    my $result = $bench->load_for(fleet => $seconds, @load);
    my $measured = ($bench->calls - $calls) / $result->{seconds};

    my $rate = $result->{requests} / $result->{seconds} / $users;
    my $said = Bench::run_tool('fleet', '--calls', 1, $users, $rate, $valid);

    return [sprintf('%d users, %.2f/s each, cache_valid %d s: calls a second',
        $users, $rate, $valid),
        sprintf('%.0f', $measured), sprintf '%.0f, by bench/fleet', $said];
}

sub answered ($result, $status, $n) {
    my $statuses = $result->{statuses};
    return $result if ($statuses->{$status} // 0) == $n;

    die 'answers: ', join(', ', map { "$statuses->{$_} of $_" }
        sort keys %$statuses), "\n";
}

sub both ($result) {
    return ms($result->{median}) . ', ' . ms($result->{max});
}

sub ms ($microseconds) { return sprintf '%.2f ms', $microseconds / 1000 }

1;
