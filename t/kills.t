# F19: workers get SIGKILL at random moments and, with a library preloaded,
# inside the zone's critical section, just after any change of its memory;
# requests of all kinds go on.  After each kill the zone is walked and found
# whole.  With QUICKBLOX_LONG=1 there are 1,000 kills, else 100.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use List::Util qw(max);
use MIME::Base64 qw(encode_base64);
use Mojo::JSON qw(decode_json encode_json);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $LONG = $ENV{QUICKBLOX_LONG};
my $KILLS = $LONG ? 1000 : 100;

my $WORKERS = 4;
my $CLIENTS = 6;
my $ZONE = 32 * 1024;
my $LOCK_TIMEOUT = 5;

my $units = $ENV{QUICKBLOX_UNITS} // 'build/unit';

my $t = Gateway->new;

plan skip_all => 'valgrind does not trap after each instruction'
    if $ENV{QUICKBLOX_VALGRIND};

for ("$units/kill.so", "$units/zone_walk") {
    plan skip_all => "$_ has not been built" if !-e;
}

$t->allow(
    qr/worker process \d+ exited on signal 9/,
    qr/shared memory zone "quickblox" was locked by \d+/,
);

my @browsers = map { ["browser$_", "Canary-Browser-$_", 10 + $_] }
    1 .. $CLIENTS;
my @people = map { ["person$_", "Canary-Person-$_", 20 + $_] } 1 .. 8;
my @held = (1, 0, map { $_->[2] } @people);

my $api = $t->api(users => [['gateway', 'Canary-Gateway-Pw', 1], @browsers,
    @people]);

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

# It tells the token, and records it.
my $backend = $t->nginx(<<'END', module => 0);
log_format tokens "$uri $http_qb_token";
access_log %%DIR%%/tokens.log tokens;

server {
    listen 127.0.0.1:%%PORT_backend%%;
    location / {
        return 200 "$uri $http_qb_token";
    }
}
END

my $control = $t->write('kill', "\0" x 12);
open my $file, '+<:raw', $control or die "$control: $!";

my %env = (
    LD_PRELOAD => join(' ', $ENV{NGINX_PRELOAD} || (), "$units/kill.so"),
    QUICKBLOX_KILL => $control,
);

# A zone so small, and times so short, that it changes with most requests.
# What is sent to the API itself is told whose session it has.
my $nginx = $t->nginx(<<"END", workers => $WORKERS, env => \%env);
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    cookie_key %%DIR%%/key;
    cookie qb "Path=/; HttpOnly";
    zone quickblox $ZONE;
    cache_valid 1s;
    cache_invalid 1s;
    basic_valid 1s;
    timeout 1s;
    lock_timeout ${LOCK_TIMEOUT}s;
}

server {
    listen 127.0.0.1:%%PORT_0%% reuseport;

    quickblox chat;
    quickblox_user \$arg_user;
    quickblox_require any;

    location /client/ {
        proxy_pass http://127.0.0.1:%%PORT_backend%%;
    }
    location = /user {
        quickblox_session user;
        proxy_pass %%API%%/session.json;
    }
    location = /application {
        quickblox_session application;
        proxy_pass %%API%%/session.json;
    }
    location = /basic {
        quickblox_session basic;
        proxy_pass %%API%%/session.json;
    }
    location = /user_token {
        quickblox_session user_token;
        proxy_pass %%API%%/session.json;
    }
    location = /cookie {
        quickblox_session cookie;
        proxy_pass %%API%%/session.json;
    }
    location = /login {
        quickblox_login;
    }
    location = /logout {
        quickblox_logout destroy;
    }
}
END

my $master = $nginx->pid;


# The zone, from outside: nginx is a child of this process, which may read its
# memory where the system lets anybody do so.

my $address = zone_address();
open my $memory, '<:raw', "/proc/$master/mem" or $address = undef;

sub zone_address {
    open my $maps, '<', "/proc/$master/maps" or return;

    no warnings 'portable';

    while (<$maps>) {
        my ($from, $to) = /^([0-9a-f]+)-([0-9a-f]+) rw-s .*\(deleted\)/
            or next;
        return hex $from if hex($to) - hex($from) == $ZONE;
    }

    return;
}

sub zone {
    sysseek $memory, $address, 0 or return;
    sysread($memory, my $bytes, $ZONE) // return;

    return $bytes;
}

if (!defined $address || length(zone() // '') != $ZONE) {
    plan skip_all => "the memory of nginx cannot be read: $!";
}

my (@wrong, %user_of, %user_of_token, %most);
my ($walks, $pages, $killed) = (0);

# Whose the tokens are that the API has issued; the test ends some.
sub learn {
    $user_of_token{$_->{token}} = $_->{user_id} for $api->sessions;

    return;
}

# What is wrong with a copy of the zone, as the walker says or as it was
# before: a token or a digest that has become another user's is half of one
# record and half of another.
sub walk ($bytes) {
    my $name = $t->write('zone', $bytes);
    my ($asked, @held, $count) = (0);
    my $locked = 0;

    open my $walk, '-|', "$units/zone_walk", $name, 1000, 1
        or die "$units/zone_walk: $!";

    while (my $line = <$walk>) {
        chomp $line;
        my ($what, @more) = split / /, $line;
        $count->{$what}++;

        if ($what eq 'lock') {
            $locked = $more[0];

        } elsif ($what eq 'asked') {
            $asked = $more[0];

        } elsif ($what eq 'pages') {
            push @wrong, "$more[0] pages, not $pages"
                if ($pages //= $more[0]) != $more[0];

        } elsif ($what =~ /^(?:client|held)$/) {
            my ($digest, $user, $token) = @more;
            push @wrong, "$line: was user $user_of{$digest}"
                if ($user_of{$digest} //= $user) != $user;
            push @held, $line if $what eq 'held';

        } else {
            push @wrong, $line;
        }
    }

    close $walk or push @wrong, "the walk ended with status $?";

    for my $line (@held) {
        my (undef, undef, $user, $token) = split / /, $line;
        learn() if !exists $user_of_token{$token};
        my $owner = $user_of_token{$token}
            // (grep({ $_ eq $token } $api->secrets) ? $user : 'nobody');
        push @wrong, "$line: a token of user $owner" if $owner ne $user;
    }

    $walks++;
    $most{$_} = max $most{$_} // 0, $count->{$_} // 0 for qw(client held);
    $most{asked} = max $most{asked} // 0, $asked;

    return ($locked, $asked);
}


# Requests: of each kind what it is answered with, but for those that a kill
# has cut off.

my @tokens = map { $api->session(user_id => 1000 + $_) } 0 .. 39;

sub basic ($user) {
    return ['Authorization', 'Basic ' . encode_base64("$user->[0]:$user->[1]",
        '')];
}

my (%done, @bad);
my ($cut, $busy, $longest) = (0, 0, 0);

sub asked ($kind, $status, $is, %request) {
    my $began = time;
    my $res = $t->request(timeout => 4 * $LOCK_TIMEOUT, %request);

    $longest = max $longest, time - $began;
    $done{$kind}++;

    if (!$res->complete && ($res->error // '') ne 'timeout') {
        $cut++;
        return;
    }

    return $res if $res->status == $status && $is->($res);

    # On a machine that is busy an answer of the API can come too late.
    if ($res->status == 503) {
        $busy++;
        return;
    }

    push @bad, "$kind: " . ($res->error // '') . $res->raw;

    return;
}

sub session_of ($user) {
    return sub ($res) {
        return ($res->json // {})->{session}{user_id} == $user;
    };
}

my %ask = (
    client => sub {
        my $i = int rand @tokens;
        asked(client => 200,
            sub ($res) { $res->body eq "/client/$i $tokens[$i]" },
            path => "/client/$i", token => $tokens[$i]);
    },
    wrong => sub {
        asked(wrong => 401, sub { 1 }, path => '/client/wrong',
            token => join '', map { int rand 10 } 1 .. 40);
    },
    user => sub { asked(user => 200, session_of(1), path => '/user') },
    application => sub {
        asked(application => 200, session_of(0), path => '/application');
    },
    basic => sub {
        my $user = $people[rand @people];
        asked(basic => 200, session_of($user->[2]), path => '/basic',
            headers => [basic($user)]);
    },
    refused => sub {
        asked(refused => 401, sub { 1 }, path => '/basic',
            headers => [basic([$people[0][0], 'Canary-Wrong-' . rand])]);
    },
    user_token => sub {
        my $id = $people[rand 4][2];
        asked(user_token => 200, session_of($id),
            path => "/user_token?user=$id");
    },
);

# A browser logs in, comes again, and logs out: then it is out.
sub browse ($browser, $jar) {
    my @cookie = (headers => [['Cookie', $jar->{cookie} // '']]);

    if (!defined $jar->{cookie}) {
        my $res = asked(login => 200, sub { 1 }, path => '/login',
            json => {login => $browser->[0], password => $browser->[1]});
        ($jar->{cookie}) = $res->header('Set-Cookie') =~ /^(qb=[^;]+)/
            if $res;

    } elsif ($jar->{out}) {
        asked(out => 401, sub { 1 }, path => '/cookie', @cookie);
        %$jar = () if rand() < 0.5;

    } elsif (rand() < 0.2) {
        my $res = asked(logout => 200, sub { 1 }, method => 'POST',
            path => '/logout', @cookie);

        # One that was cut off may have come through.
        $res ? ($jar->{out} = 1) : (%$jar = ());

    } else {
        asked(cookie => 200, session_of($browser->[2]), path => '/cookie',
            @cookie);
    }

    return;
}

# A client in a process of its own, until told to stop.
sub client ($number) {
    my $pid = fork // die "fork: $!";
    return $pid if $pid;

    srand $number;

    my @kinds = sort keys %ask;
    my $jar = {};

    until (-e $t->dir . '/stop' || @bad > 5) {
        rand() < 0.3 ? browse($browsers[$number], $jar)
            : $ask{$kinds[rand @kinds]}->();
    }

    $t->write("client$number", encode_json({done => \%done, bad => \@bad,
        cut => $cut, busy => $busy, longest => $longest}));
    POSIX::_exit(0);
}


# Kills

sub state_of ($pid) {
    open my $stat, '<', "/proc/$pid/stat" or return 'X';

    return (readline($stat) // '') =~ /\) (\S)/ ? $1 : 'X';
}

sub freeze (@pids) {
    kill STOP => @pids;
    $t->wait_for(sub { !grep { state_of($_) !~ /[TtZX]/ } @pids },
        'stop of processes');

    return;
}

sub put ($at, $number) {
    sysseek $file, $at, 0;
    syswrite $file, pack 'L', $number;

    return;
}

sub killed {
    sysseek $file, 8, 0;
    sysread $file, my $pid, 4;

    return unpack 'L', $pid;
}

# The master is stopped, so that what a dead worker had locked stays so until
# the zone was copied.
sub kill_in_section {
    put(4, 0);
    put(8, 0);
    put(0, 1 + int rand 20);
    $t->wait_for(\&killed, 'kill in the critical section');

    return killed();
}

sub kill_anywhere {
    my @workers = $nginx->workers;
    my $pid = $workers[rand @workers];

    select undef, undef, undef, rand 0.01;
    kill KILL => $pid;

    return $pid;
}

sub kill_worker ($how) {
    my @workers = $nginx->workers;

    freeze($master);
    my $pid = $how->();
    $t->wait_for(sub { state_of($pid) =~ /[ZX]/ }, 'end of a worker');
    freeze(@workers);
    my $bytes = zone();
    kill CONT => @workers, $master;
    $killed = time;

    my ($locked) = walk($bytes);

    $t->wait_for(sub {
        my @now = $nginx->workers;
        return @now == $WORKERS && !grep { $_ == $pid } @now;
    }, 'new worker');

    return $locked == $pid;
}

# All kinds are served; how long after the kill.
sub recover {
    $ask{$_}->() for sort keys %ask;

    return time - $killed;
}

walk(zone());

my @clients = map { client($_) } 0 .. $CLIENTS - 1;
my ($inside, $anywhere, $slowest) = (0, 0, 0);

for my $n (1 .. $KILLS) {
    if ($n % 3) {
        $inside += kill_worker(\&kill_in_section);

    } else {
        $anywhere += kill_worker(\&kill_anywhere);
    }

    # One after the other: a session that is gone before anybody was served
    # with it is not made anew at once.
    if ($n % 2 == 0) {
        learn();
        $api->expire_user($held[$n / 2 % @held]);
    }

    $slowest = max $slowest, recover() if $n % 20 == 0;
    last if @wrong > 5 || @bad;
}

$t->write('stop', '');

for my $pid (@clients) {
    waitpid $pid, 0;
    push @bad, "a client ended with status $?" if $?;
}

$t->wait_for(sub { (walk(zone()))[1] == 0 }, 'end of all leases', 3);

my @told = map { decode_json($t->read("client$_")) } 0 .. $CLIENTS - 1;

for my $told (@told) {
    $done{$_} += $told->{done}{$_} for keys %{$told->{done}};
    $cut += $told->{cut};
    $busy += $told->{busy};
    $longest = max $longest, $told->{longest};
    push @bad, @{$told->{bad}};
}

note "$walks walks; at most: ", join ', ',
    map { "$most{$_} $_" } sort keys %most;
note 'requests: ', join ', ', map { "$done{$_} $_" } sort keys %done;
note sprintf '%d cut off, %d too late, the longest took %.1f s, '
    . 'recovery %.1f s', $cut, $busy, $longest, $slowest;
note "$inside and, at random moments, $anywhere kills in the section";

is_deeply \@wrong, [], "F19: after each of $KILLS kills the zone is whole";
is_deeply \@bad, [], 'and all requests are answered as ever';

my $alerts = () = $nginx->error_log =~ /"quickblox" was locked by/g;
is $alerts, $inside + $anywhere, 'nginx has unlocked as many zones';
cmp_ok $inside, '>=', $KILLS / 2, 'as were locked by who was killed';

ok !$busy || $nginx->error_log =~ /API call .* timed out/,
    'but where the API was late';

cmp_ok $longest, '<', $LOCK_TIMEOUT + 1,
    'no request has waited for longer than it may';
cmp_ok $slowest, '<', 2, 'who comes after a kill is served soon';

recover();
is_deeply \@bad, [], 'and in the end, of every kind';

# Who got past: each with the token that is its own.
my @passed = grep { /\S/ } split /\n/, $t->read('tokens.log');
my %own = map { ("/client/$_ $tokens[$_]" => 1) } 0 .. $#tokens;
is_deeply [grep { !$own{$_} } @passed], [],
    'nothing else came to the backend';
cmp_ok scalar(@passed), '>=', $done{client} / 2, 'what did, it has told';

$t->done;
