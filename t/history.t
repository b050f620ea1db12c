# F33: eight workers, and eight clients that log in, log out, have sessions
# forgotten, end them and are replayed, on few keys at a time.  Each request is
# recorded with when it began and ended, and what it saw; then the history of
# each key must be one that could have happened one request after the other.
# With QUICKBLOX_LONG=1 there are many rounds, else a few.

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
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

my $ROUNDS = $ENV{QUICKBLOX_LONG} ? 120 : 4;
my $CLIENTS = 8;

# s that a session which ended elsewhere may live on in the application
# "short": its cache_valid, in full seconds, and what a call may take
my $SHORT = 1 + 1 + 5;

my @people = map { ["person$_", "Canary-Person-$_", 100 + $_] }
    0 .. $ROUNDS - 1;

my $t = Gateway->new;
my $api = $t->api(users => [['gateway', 'Canary-Gateway-Pw', 1], @people]);

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

# In front of what is upstream, with all that it is sent.
$t->nginx(<<'END', module => 0, level => 'error');
log_format tokens "$request_uri $http_qb_token";
access_log %%DIR%%/tokens.log tokens;

server {
    listen 127.0.0.1:%%PORT_upstream%%;

    location / {
        return 200;
    }
    location /held/ {
        rewrite ^ /session.json break;
        proxy_pass %%API%%;
    }
    location /seen/ {
        rewrite ^ /session.json break;
        proxy_pass %%API%%;
    }
}
END

my $application = <<'END';
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    cookie_key %%DIR%%/key;
    cookie qb "Path=/; HttpOnly";
    lock_timeout 20s;
    timeout 10s;
END

my $locations = <<'END';
    location /client/ {
        proxy_pass http://127.0.0.1:%%PORT_upstream%%;
    }
    location /api/ {
        quickblox_require any;
        quickblox_application_access write;
        proxy_pass %%API%%/;
    }
    location /seen/ {
        proxy_pass http://127.0.0.1:%%PORT_upstream%%;
    }
    location /logout {
        quickblox_logout destroy;
    }
END

# The sessions that the gateway holds, and where they are forgotten: then they
# are asked for again.
my @HELD = qw(user application basic user_token);

my $held = join '', map { <<"END" } @HELD;
    location /held/$_/ {
        quickblox_session $_;
        quickblox_require any;
        proxy_pass http://127.0.0.1:%%PORT_upstream%%;

        location /held/$_/forget/ {
            quickblox_forget on;
            proxy_pass http://127.0.0.1:%%PORT_upstream%%;
        }
    }
END

$t->nginx(<<"END", workers => 8, level => 'error');
quickblox_application chat {
    zone quickblox 1m;
$application
}

quickblox_application short {
    zone quickblox;
    cache_valid 1s;
$application
}

add_header X-Status \$quickblox_status always;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport;

    quickblox chat;
    quickblox_user \$arg_user;

$locations
    location /cookie/ {
        quickblox_session cookie;
        proxy_pass http://127.0.0.1:%%PORT_upstream%%;
    }
    location = /cookie/login {
        quickblox_login;
    }
    location = /cookie/logout {
        quickblox_session cookie;
        quickblox_logout destroy;
    }
$held
}

server {
    listen 127.0.0.1:%%PORT_short%% reuseport;

    quickblox short;

$locations
}
END

# What the API says of a session is old before it is here.
$api->fail(endpoint => 'GET /session.json', drip => 40_000);


# A round has three keys.  The token of a client is upgraded and downgraded
# again, and ends in one of four ways; a cookie is another one after each
# login; a session that is held is another one each time that it has ended.

my @ENDS = qw(destroy forget seen expire);

my @rounds = map { {
    number => $_,
    person => $people[$_],
    token => $api->session(user_id => $people[$_][2]),
    end => $ENDS[$_ % 4],
    port => $t->port($ENDS[$_ % 4] eq 'expire' ? 'short' : 0),
    held => $_ < 4 ? $HELD[$_] : $HELD[2 + $_ % 2],
} } 0 .. $ROUNDS - 1;

my (@history, $self, $serial);

sub now { return clock_gettime(CLOCK_MONOTONIC) }

sub record ($key, $what, $began, %more) {
    push @history, {client => $self, key => $key, what => $what,
        began => $began, ended => now, %more};

    return;
}

my %SAW = (200 => 'user', 403 => 'application', 401 => 'none');

sub saw ($res) {
    return $SAW{$res->status} // 'status ' . $res->status . ' '
        . ($res->error // '');
}

sub read_client ($round) {
    my $began = now;
    my $res = $t->get('/client/', token => $round->{token},
        port => $round->{port});

    record("client $round->{number}", 'read', $began, saw => saw($res));

    return saw($res);
}

sub write_client ($round) {
    my $key = "client $round->{number}";
    my @request = (port => $round->{port}, token => $round->{token});
    my ($login, $password) = @{$round->{person}};

    my $write = sub ($value, $delay, @requests) {
        my $began = now;
        my @failed = grep { !/^2/ } map { $_->() } @requests;

        record($key, 'write', $began, saw => @failed ? "failed @failed"
            : $value, delay => $delay);
        read_client($round) for 1 .. 3;
    };

    for (1 .. 3) {
        $write->('application', 0, sub {
            $t->request(method => 'DELETE', path => '/api/login.json',
                @request)->status;
        });
        $write->('user', 0, sub {
            $t->post('/api/login.json', encode_json({login => $login,
                password => $password}), headers => [['Content-Type',
                'application/json']], @request)->status;
        });
    }

    my %end = (
        destroy => [sub { $t->post('/logout', '', @request)->status }],
        forget => [sub {
            $t->request(method => 'DELETE', path => '/api/session.json',
                @request)->status;
        }],
        seen => [sub { $api->expire($round->{token}); 200 }, sub {
            $t->get('/seen/', @request)->status == 401 ? 200 : 0;
        }],
        expire => [sub { $api->expire($round->{token}); 200 }],
    );

    $write->('none', $round->{end} eq 'expire' ? $SHORT : 0,
        @{$end{$round->{end}}});
    eval {
        $t->wait_for(sub { read_client($round) eq 'none' }, 'end');
    } or record($key, 'write', now, saw => "failed $@", delay => 0);

    return;
}

sub read_cookie ($round) {
    my ($key, $cookie) = split /\n/, $t->read("cookie$round->{number}")
        or return;
    my $began = now;
    my $res = $t->get('/cookie/', headers => [['Cookie', $cookie]]);

    record($key, 'read', $began, saw => saw($res));

    return $res;
}

sub write_cookie ($round) {
    my ($login, $password) = @{$round->{person}};
    my $name = "cookie$round->{number}";

    for my $n (1 .. 4) {
        my $key = "cookie $round->{number} $n";
        my $res = $t->request(path => '/cookie/login',
            json => {login => $login, password => $password});
        my ($cookie) = ($res->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/
            or return record($key, 'write', now, saw => 'failed', delay => 0);

        $t->write("$name.new", "$key\n$cookie");
        rename $t->dir . "/$name.new", $t->dir . "/$name";

        # The login has told all workers.
        my $first = read_cookie($round);
        record($key, 'first', now, saw => $first->header('X-Status') // '');
        read_cookie($round) for 1 .. 4;

        my $began = now;
        my $out = $t->post('/cookie/logout', '', headers => [['Cookie',
            $cookie]]);
        record($key, 'write', $began, delay => 0,
            saw => $out->status == 200 ? 'none' : 'failed');
        read_cookie($round) for 1 .. 3;
    }

    return;
}

sub read_held ($round) {
    my ($login, $password, $id) = @{$round->{person}};
    my $path = "/held/$round->{held}/" . (rand() < 0.2 ? 'forget/' : '')
        . "$round->{number}/$self-" . ++$serial . "?user=$id";
    my $began = now;
    my $res = $t->get($path, headers => [['Authorization', 'Basic '
        . encode_base64("$login:$password", '')]]);

    record("held $round->{number}", 'read', $began, path => $path,
        saw => $res->status);

    return $res;
}

sub write_held ($round) {
    for (1 .. 10) {
        my $token = (read_held($round)->json // {})->{session}{token};
        my $began = now;
        $api->expire($token);
        record("held $round->{number}", 'end', $began, saw => 'none');
    }

    read_held($round);

    return;
}

my @READ = (\&read_client, \&read_cookie, \&read_held);
my @WRITE = (\&write_client, \&write_cookie, \&write_held);

# In each round three of the clients write, the others read what they like.
sub client ($number) {
    my $pid = fork // die "fork: $!";
    return $pid if $pid;

    $self = $number;
    srand $number;

    for my $round (@rounds) {
        my $role = ($self + $round->{number}) % $CLIENTS;
        my @over = map { $t->dir . "/over-$round->{number}-$_" } 0 .. 2;

        if ($role < 3) {
            $WRITE[$role]->($round);
            $t->write("over-$round->{number}-$role", '');
        }

        while (1) {
            my $over = !grep { !-e } @over;
            $_->($round) for $over ? @READ : $READ[rand @READ];
            last if $over;
        }
    }

    $t->write("history$self", encode_json(\@history));
    POSIX::_exit(0);
}

my @clients = map { client($_) } 0 .. $CLIENTS - 1;

for my $pid (@clients) {
    waitpid $pid, 0;
    is $?, 0, 'a client has come to its end';
}


# Whether the history could have happened one request after the other

my %history;

for my $entry (map { @{decode_json($t->read("history$_"))} }
    0 .. $CLIENTS - 1)
{
    push @{$history{$entry->{key}}}, $entry;
}

my @wrong;

sub wrong ($entry, $why) {
    push @wrong, sprintf '%s: %s of %.4f to %.4f saw %s: %s',
        @$entry{qw(key what began ended saw)}, $why;

    return;
}

# One client writes, so what is written has an order: a version is what holds
# after so many writes.  A read saw one that had begun to hold before it ended,
# and that had not been followed before it began; nor was it older than what
# another read saw that ended before.  That each saw the oldest version which
# it can have seen leaves most room to the others.
sub check_register (@entries) {
    my @writes = sort { $a->{began} <=> $b->{began} }
        grep { $_->{what} eq 'write' } @entries;
    my @reads = sort { $a->{began} <=> $b->{began} }
        grep { $_->{what} eq 'read' } @entries;
    my @values = ('user', map { $_->{saw} } @writes);
    my @seen;

    for my $write (@writes) {
        wrong($write, 'it failed') if $write->{saw} =~ /^failed/;
    }

    for my $read (@reads) {
        my $low = grep { $_->{ended} + $_->{delay} < $read->{began} } @writes;
        my $high = grep { $_->{began} < $read->{ended} } @writes;

        my $known = max $low, map { $_->{version} }
            grep { $_->{ended} < $read->{began} } @seen;
        my ($version) = grep { $values[$_] eq $read->{saw} }
            $known .. $high;

        if (!defined $version) {
            wrong($read, "of versions $known to $high of @values");
            next;
        }

        $read->{version} = $version;
        push @seen, $read;
    }

    for my $first (grep { $_->{what} eq 'first' } @entries) {
        wrong($first, 'a login is known to all workers')
            if $first->{saw} ne 'HIT';
    }

    return scalar @writes;
}

# Sessions held are made by the gateway: one for each that has ended.  None is
# sent once a request has been answered with a newer one.
my (%sent, %number);

for (split /\n/, $t->read('tokens.log')) {
    my ($path, $token) = split / /;
    push @{$sent{$path}}, $token if $path =~ m{^/held/};
}

sub check_held (@entries) {
    my @reads = sort { $a->{began} <=> $b->{began} }
        grep { $_->{what} eq 'read' } @entries;
    my @ends = sort { $a->{began} <=> $b->{began} }
        grep { $_->{what} eq 'end' } @entries;

    # As the one who ended them saw them, one after the other.
    my (%version, @writer, @seen);

    for my $end (@ends) {
        my ($before) = grep { $_->{ended} < $end->{began}
            && $_->{client} == $end->{client} } reverse @reads;
        push @writer, $sent{$before->{path}}[-1];
    }

    my ($last) = grep { $_->{client} == $ends[-1]{client}
        && $_->{began} > $ends[-1]{ended} } @reads;
    push @writer, $sent{$last->{path}}[-1];

    $version{$writer[$_]} //= $_ for 0 .. $#writer;

    wrong($ends[$_], 'there was no new session after it')
        for grep { $writer[$_] eq $writer[$_ + 1] } 0 .. $#ends;

    for my $read (@reads) {
        my @tokens = @{$sent{$read->{path}} // []};
        my $known = max 0, map { $_->{version} }
            grep { $_->{ended} < $read->{began} } @seen;

        # The session of a replay, too, may have ended meanwhile.
        my $end = @tokens == 2 && $ends[$version{$tokens[1]} // @ends];
        wrong($read, 'it was not served')
            if $read->{saw} != 200 && !($read->{saw} == 401 && $end
                && $end->{began} < $read->{ended}
                && $end->{ended} > $read->{began});

        for my $token (@tokens) {
            my $version = $version{$token};

            if (!defined $version) {
                wrong($read, 'a session that nobody needed');
                next;
            }

            wrong($read, "with session $version, after $known")
                if $version < $known;
            $known = $version;
        }

        $read->{version} = $known;
        push @seen, $read;
        $number{replayed}++ if @tokens > 1;
    }

    return scalar @ends;
}

for my $key (sort keys %history) {
    my @entries = @{$history{$key}};

    $number{writes} += $key =~ /^held/ ? check_held(@entries)
        : check_register(@entries);
    $number{reads} += grep { $_->{what} eq 'read' } @entries;
}

my $overlaps = 0;

for my $key (keys %history) {
    my @writes = grep { $_->{what} =~ /^(?:write|end)$/ } @{$history{$key}};

    $overlaps += grep {
        my $read = $_;
        $read->{what} eq 'read' && grep { $_->{began} < $read->{ended}
            && $read->{began} < $_->{ended} } @writes;
    } @{$history{$key}};
}

note scalar(keys %history), ' keys, ', join(', ', map { "$number{$_} $_" }
    sort keys %number), ", $overlaps reads during a write";

is_deeply \@wrong, [], 'F33: the history of each key has an order';
cmp_ok $overlaps, '>', $ROUNDS * 10, 'though much happened at once';
cmp_ok $number{replayed}, '>=', $ROUNDS * 5, 'and much was replayed';

$t->done;
