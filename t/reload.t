# Reloads and upgrades: nothing is lost that is still right, nothing kept that
# is not (F20, F21, F22).

use strict;
use warnings;
use lib 't/lib';

use File::Copy ();
use Gateway;
use Gateway::Nginx;
use POSIX ();
use Test::More;

my $t = Gateway->new;

# Two with one password.
my $api = $t->api(users => [
    ['gateway', 'Canary-Gateway-Pw', 1],
    ['bob', 'Canary-Gateway-Pw', 5, 'bob@example.com'],
]);
my $backend = $t->backend;

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $FOREIGN = '{"errors":{"base":["Session belongs to another application"]}}';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my %default = (
    api => '%%API%%',
    application_id => 92,
    auth_key => 'wJHd4cQSxpQGWx5',
    auth_secret => 'jyqGNhbGxkvBTgd',
    login => 'gateway',
    password => 'Canary-Gateway-Pw',
    zone => 'quickblox 1m',
);

sub application {
    my ($name, %change) = @_;
    my %all = (%default, %change);

    return join "\n", "quickblox_application $name {",
        (map { "    $_ $all{$_};" } grep { defined $all{$_} } sort keys %all),
        "}\n";
}

# An application with these directives changed, and the server.
sub configuration {
    my (%change) = @_;
    my $name = delete $change{name} // 'chat';

    return application($name, %change) . <<"END";
add_header X-Pid \$pid always;
add_header X-Status \$quickblox_status always;
add_header X-User \$quickblox_user_id always;

server {
    listen 127.0.0.1:%%PORT_0%%;

    location / {
        quickblox $name;
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox $name;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
}
END
}

my @client = (path => '/', token => $api->session(user_id => 5));
my @user = (path => '/user/');

# What both kinds of request get, and the calls that they need.
sub shown {
    my @shown;

    for ([@client], [@user]) {
        $api->reset_calls;
        my $res = $t->request(@$_);
        my $counts = $api->counts;

        push @shown, join ' ', $res->status, $res->header('X-Status') // (),
            map { "$_: $counts->{$_}" } sort keys %$counts;
    }

    return join ', ', @shown;
}

my $COLD = "200 MISS $VALIDATION: 1, 200 MISS $LOGIN: 1";
my $KNOWN = '200 HIT, 200 HIT';

# What ends with the test, whatever becomes of it.
my ($load, $upgraded);
my $owner = $$;

END {
    if ($$ == $owner) {
        my $code = $?;

        kill KILL => $load if $load;
        kill KILL => all_of($upgraded) if $upgraded;
        waitpid $load, 0 if $load;
        $? = $code;
    }
}

# Requests, one after the other on connections of their own and on kept ones,
# until the function that this returns is called: it tells how often which
# status came.  A kept connection may be closed while it is idle, as stock
# nginx does at a reload.
sub load {
    pipe my $read, my $write or die "pipe: $!";
    pipe my $stop, my $running or die "pipe: $!";

    $load = fork // die "fork: $!";

    if (!$load) {
        close $running;
        my $seen = eval { requests($stop) } // {$@ => 1};

        print {$write} map { "$_ $seen->{$_}\n" } keys %$seen;
        close $write;
        POSIX::_exit(0);
    }

    close $write;

    return sub {
        close $running;
        $t->wait_for(sub { waitpid($load, POSIX::WNOHANG()) == $load },
            'end of the load', 60);
        undef $load;

        return {map { /^(.*) (\d+)$/ } readline $read};
    };
}

sub requests {
    my ($stop) = @_;
    my (%seen, %kept);

    my $end = '';
    vec($end, fileno $stop, 1) = 1;

    until (select my $ready = $end, undef, undef, 0) {
        my @clients = map { $t->start(@$_) } \@client, \@user;

        for my $request (\@client, \@user) {
            my $fresh = !$kept{$request};
            my $client = $kept{$request} //= $t->client;
            my $res = $client->request(@$request);

            # Not even an answer begun.
            if (!$fresh && !$res->status && $res->raw eq '') {
                delete $kept{$request};
                redo;
            }

            $seen{$res->complete ? $res->status : $res->error}++;
            delete $kept{$request}
                if !$res->complete || $res->header('Connection') eq 'close';
        }

        for (map { $_->finish } @clients) {
            $seen{$_->complete ? $_->status : $_->error}++;
        }
    }

    return \%seen;
}

# Until the load has got on: a step is taken amid requests.
sub amid {
    my $hits = $backend->hits + 8;

    return $t->wait_for(sub { $backend->hits >= $hits }, 'requests', 20);
}


# F20: under load

{
    my $nginx = $t->nginx(configuration(), workers => 2);

    is shown(), $COLD, 'F20: a session of each kind';
    $api->reset_calls;

    my $end = load();
    my %pids;

    for my $number (1 .. 6) {
        amid();
        ok $nginx->reload, "F20: reload $number under load";
        $pids{$_} = 1 for $nginx->workers;
    }

    amid();
    is_deeply [keys %{$end->()}], [200], 'F20: no request has failed';
    is keys %pids, 12, 'though each reload had new workers';
    is $api->calls, 0, 'the sessions were kept: no call';

    $nginx->stop;
}

# F20: what is under way

# Until the worker has read a client's request, and sleeps again.
sub taken {
    my ($client, $worker) = @_;
    my $socket = sprintf ':%04X [0-9A-F]+:%04X', $t->port(0),
        $client->{socket}->sockport;

    return $t->wait_for(sub {
        my ($unread, $inode) = Gateway::Nginx::_slurp('/proc/net/tcp')
            =~ /$socket \S+ \S+:(\S+) \S+ \S+ +\d+ +\d+ (\d+)/;
        my ($state) = Gateway::Nginx::_slurp("/proc/$worker/stat")
            =~ /\) (\S)/;

        return $inode && !hex $unread && $state eq 'S';
    }, "request in $worker");
}

for my $case (
    [$LOGIN, \@user, 'a login'],
    [$VALIDATION, \@client, 'a validation'],
) {
    my ($endpoint, $request, $name) = @$case;
    @client = (path => '/', token => $api->session(user_id => 5));
    my $nginx = $t->nginx(configuration(timeout => '30s',
        lock_timeout => '30s'), workers => 1);
    my ($old) = $nginx->workers;

    $api->reset_calls;
    $api->fail(endpoint => $endpoint, hold => 1);

    my $asks = $t->start(@$request);
    $api->wait_held(1);
    my $waits = $t->start(@$request);
    my $leaves = $t->start(@$request);
    taken($_, $old) for $waits, $leaves;

    ok $nginx->reload(undef, keep => 1), "F20: a reload with $name under way";
    $t->wait_for(sub { !grep { $_ == $old } $nginx->workers },
        'old worker that shuts down');
    is_deeply [$nginx->workers(all => 1)], [sort { $a <=> $b } $old,
        $nginx->workers], 'the old worker stays for it';

    my $new = $t->start(@$request);
    taken($new, $nginx->workers);
    $leaves->abort;
    $api->release;

    my @responses = map { $_->finish } $asks, $waits, $new;
    is_deeply [map { $_->status . ' ' . $_->header('X-Status') } @responses],
        ['200 MISS', '200 WAIT', '200 WAIT'], 'it serves those who wait';
    is_deeply [map { $_->header('X-Pid') } @responses],
        [$old, $old, $nginx->workers], 'in the old worker, and in the new';
    is $api->calls, 1, 'by one call';

    $t->wait_for(sub { !grep { $_ == $old } $nginx->workers(all => 1) },
        'end of the old worker');
    is $t->request(@$request)->header('X-Status'), 'HIT', 'and the next';

    # A call that nobody waits for any more.
    $api->heal;
    @client = (path => '/', token => $api->session(user_id => 5));
    ($old) = $nginx->workers;

    $api->reset_calls;
    $api->fail(endpoint => $VALIDATION, hold => 1);
    my $client = $t->start(@client);
    $api->wait_held(1);
    $client->abort;
    $nginx->reload(undef, keep => 1);
    $api->heal;
    $api->release;
    $t->wait_for(sub { !grep { $_ == $old } $nginx->workers(all => 1) },
        'end of the old worker');

    is $t->request(@client)->header('X-Status'), 'HIT',
        'F20: the result of a call that nobody waits for is kept';
    is $api->calls, 1, 'by one call';

    $nginx->stop;
}


# F21: what has changed is not honoured any more

my $other_api = $t->api(auth_secret => 'Canary-Other-Secret');

for my $case (
    ['nothing', {}, $KNOWN],
    ['cache_valid', {cache_valid => '5m'}, $KNOWN],
    ['auth_key', {auth_key => 'Canary-No-Key'},
        "200 HIT, 503 ERROR $LOGIN: 1"],
    ['auth_secret', {auth_secret => 'Canary-No-Secret'},
        "200 HIT, 503 ERROR $LOGIN: 1"],
    ['login', {login => 'bob'}, "200 HIT, 200 MISS $LOGIN: 1"],
    ['login by email', {login => undef, email => 'bob@example.com'},
        "200 HIT, 200 MISS $LOGIN: 1"],
    ['password', {password => 'Canary-No-Password'},
        "200 HIT, 503 ERROR $LOGIN: 1"],
    ['application_id', {application_id => 93, auth_key => 'authkey93',
        auth_secret => 'Canary-Secret-93'},
        "403 REJECTED $VALIDATION: 1, 503 ERROR $LOGIN: 1"],
    ['zone size', {zone => 'quickblox 2m'}, $COLD],
    ['zone name', {zone => 'other 1m'}, $COLD],
    # Not the one that is counted.
    ['api', {api => $other_api->url, auth_secret => 'Canary-Other-Secret'},
        '401 REJECTED, 200 MISS'],
) {
    my ($name, $change, $shown) = @$case;
    my $nginx = $t->nginx(configuration());

    is shown(), $COLD, "F21: $name";
    is shown(), $KNOWN, 'two sessions are known';

    $other_api->reset_calls;
    ok $nginx->reload(configuration(%$change)), 'and then it changes';
    is shown(), $shown, 'what is known by then';
    is $other_api->calls, $name eq 'api' ? 2 : 0, 'to the other API';

    is $t->request(@client)->body, $FOREIGN, 'a foreign session now'
        if $name eq 'application_id';
    is $t->request(@user)->header('X-User'), 5, 'the other user'
        if $name =~ /login/;

    # The old sessions are those of the old configuration.
    if ($name !~ /zone/) {
        ok $nginx->reload(configuration()), 'it changes back';
        is shown(), $KNOWN, 'to what was known before';
    }

    $nginx->stop;
}

SKIP: {
    skip 'a static module stays what it is', 14 if $ENV{QUICKBLOX_STATIC};

    my $nginx = $t->nginx(configuration());
    is shown(), $COLD, 'F21: the module is there';

    my $with = $nginx->{module};
    $nginx->{module} = 0;
    my $stock = configuration() =~ s/^quickblox_application .*?^\}$//msr
        =~ s/^ *quickblox.*\n//mgr =~ s/^add_header .*quickblox.*\n//mgr;
    ok $nginx->reload($stock), 'and removed';

    my $res = $t->request(@user);
    is $res->status, 200, 'the backend is reached without it';
    is $res->json->{token}, '', 'without a session';
    is $t->request(@client)->json->{token}, $client[-1],
        "and with the client's own";

    $nginx->{module} = $with;
    ok $nginx->reload(configuration()), 'it comes back';
    is shown(), $COLD, 'and begins anew';

    $nginx->stop;

    # The symbols of the build that was loaded first are those of all: until
    # nginx itself is another, a reload does not mix builds.
    my ($file, $other) = map { $t->dir . "/$_.so" } 'module', 'other';
    File::Copy::copy($with // $t->module, $_) or die "$_: $!"
        for $file, $other, "$file.new";

    # For this very reason a sanitizer would end it.
    local $ENV{ASAN_OPTIONS} = join ':', 'detect_odr_violation=0',
        $ENV{ASAN_OPTIONS} // ();
    $nginx = $t->nginx(configuration(), module => $file);
    is shown(), $COLD, 'F21: a module';

    rename "$file.new", $file or die "$file: $!";
    ok $nginx->reload, 'is built again';
    is shown(), $KNOWN, 'and the old one goes on';

    $nginx->{module} = $other;
    ok $nginx->reload(configuration()), 'F21: another file is named';
    is shown(), $KNOWN, 'and the old one goes on';
    ok $nginx->reload, 'and on';
    is shown(), $KNOWN, 'with its sessions';

    $nginx->stop;
}

# F21: a reload that fails

{
    my $nginx = $t->nginx(configuration(zone => 'quickblox 32k'));
    my @workers = $nginx->workers;
    $t->allow(qr/"nonsense"/, qr/has no place for/, qr/"timeout"/);

    is shown(), $COLD, 'F21: a good configuration';

    for my $bad (
        ['a directive that is unknown', configuration(nonsense => 1)],
        ['a value that is bad', configuration(timeout => 0)],
        # Found out when the zone has been adopted already.
        ['too many applications', join '', configuration(
            zone => 'quickblox 32k'), map { application("other$_",
                zone => 'quickblox') } 1 .. 4],
    ) {
        my ($name, $http) = @$bad;
        ok !$nginx->reload($http), "a reload with $name is refused";
        is shown(), $KNOWN, 'nginx serves on';
    }

    is_deeply [$nginx->workers], \@workers, 'by the same workers';

    ok $nginx->reload(configuration(zone => 'quickblox 32k')),
        'a good one again';
    is shown(), $KNOWN, 'the sessions are kept';

    # An application that is gone leaves its place in the zone.
    for my $name (qw(one two three four five)) {
        ok $nginx->reload(configuration(name => $name,
            zone => 'quickblox 32k')), "an application is renamed $name";
        is shown(), $KNOWN, 'with the same credentials, the same sessions';
    }

    # All places have been used by now.  The API backs off the one that runs.
    my $now = sub {
        my $token = $api->session(user_id => 5);
        $api->reset_calls;
        my $res = $t->request(path => '/', token => $token, @_);
        return join ' ', $res->status, $api->calls;
    };
    my $five = configuration(name => 'five', zone => 'quickblox 32k');

    $api->fail(endpoint => $VALIDATION, status => 503,
        headers => [['Retry-After', 600]]);
    is $now->(), '503 1', 'F21: the API is called no more';
    $api->heal;

    # "quickblox" has taken up both before "other" is found to be too small.
    my $bad = join '', map({ application($_, zone => 'quickblox 32k') } 'six',
        'seven'), map({ application("other$_", zone => 'other 32k') } 1 .. 3),
        "server {\n    listen 127.0.0.1:%%PORT_0%%;\n}\n";
    ok !$nginx->reload($bad), 'by who outlives a reload that is refused';
    is $now->(), '503 0', 'and knows that still';
    ok $nginx->reload($five), 'and a good one';
    is $now->(), '503 0', 'too';

    for my $name (qw(six seven eight nine)) {
        ok $nginx->reload(configuration(name => $name,
            zone => 'quickblox 32k')), "F21: $name comes";
        is $now->(), '200 1', 'and begins anew, whose place it may have';
    }

    ok $nginx->reload(configuration(name => 'ten', zone => 'quickblox 32k')
        . application('eleven', zone => 'quickblox') . <<'END'), 'F21: two';
server {
    listen 127.0.0.1:%%PORT_1%%;

    location / {
        quickblox eleven;
        proxy_pass %%BACKEND%%;
    }
}
END
    $api->fail(endpoint => $VALIDATION, status => 503,
        headers => [['Retry-After', 600]]);
    is $now->(), '503 1', 'have a place each: one is backed off';
    $api->heal;
    is $now->(port => $t->port(1)), '200 1', 'the other is not';

    $nginx->stop;
}


# F22: another binary

# The processes of an nginx that has its own directory in its command line,
# which is what its masters have, and the children of those.
sub all_of {
    my ($nginx) = @_;
    my $dir = $nginx->dir;

    my @masters = grep { $_ != $$ && _command($_) =~ /\Q$dir\E/ }
        map { m{^/proc/(\d+)$} } glob '/proc/[0-9]*';

    return @masters, map { $nginx->workers(all => 1, master => $_) } @masters;
}

sub _command { return Gateway::Nginx::_slurp("/proc/$_[0]/cmdline") }

sub until_true {
    my ($what, $condition) = @_;

    return 1 if eval { $t->wait_for($condition, $what, 20) };
    die "$@", $upgraded->error_log;
}

# The process id in a file that is another's by then.
sub master {
    my ($file, $other) = @_;
    my $pid;

    until_true("master in $file", sub {
        ($pid) = Gateway::Nginx::_slurp($file) =~ /^(\d+)\n/;
        return $pid && $pid != ($other // 0);
    });

    return $pid;
}

sub has_workers {
    my ($master, $count) = @_;

    return until_true("$count workers of $master", sub {
        my @workers = $upgraded->workers(all => 1, master => $master);
        return @workers == $count;
    });
}

sub gone {
    my ($pid) = @_;

    return until_true("end of $pid", sub {
        Gateway::Nginx::_slurp("/proc/$pid/stat") !~ /^\d+ \(.*\) [^Z]/s
    });
}

# WINCH is for daemons only.  Of its environment a new binary has what "env"
# names: what a sanitizer needs, and the module's own.
sub daemon {
    my $nginx = Gateway::Nginx->new(gateway => $t, name => 'upgrade',
        http => configuration(password => 'env:QUICKBLOX_PASSWORD'),
        main => "env LD_PRELOAD;\nenv ASAN_OPTIONS;\nenv UBSAN_OPTIONS;\n",
        env => {QUICKBLOX_PASSWORD => 'Canary-Gateway-Pw'}, workers => 2);
    push @{$t->{nginxes}}, $nginx;

    $t->write('upgrade/nginx.conf',
        $t->read('upgrade/nginx.conf') =~ s/^daemon off;$/daemon on;/mr);

    $upgraded = $nginx;
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        open STDOUT, '>>', $nginx->dir . '/stderr.log';
        open STDERR, '>&', \*STDOUT;
        $nginx->_environment;
        exec $nginx->command('-e', $nginx->dir . '/error.log')
            or POSIX::_exit(127);
    }

    until_true('daemon', sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    is $?, 0, 'F22: nginx starts';

    return $nginx->dir . '/nginx.pid';
}

{
    my $file = daemon();
    my $old = master($file);

    has_workers($old, 2);
    is shown(), $COLD, 'F22: the old binary';

    my $end = load();
    amid();
    $api->reset_calls;

    kill USR2 => $old;
    my $new = master($file, $old);
    is master("$file.oldbin"), $old, 'F22: an upgrade begins';
    has_workers($new, 2);
    kill WINCH => $old;
    has_workers($old, 0);
    amid();
    is $t->request(@$_)->status, 200, 'the new binary serves'
        for \@client, \@user;
    is_deeply $api->counts, {$LOGIN => 1, $VALIDATION => 1},
        'after one login of its own';

    $api->reset_calls;
    kill HUP => $old;
    has_workers($old, 2);
    kill QUIT => $new;
    gone($new);
    is master($file, $new), $old, 'F22: rolled back';
    amid();
    is $t->request(@user)->header('X-Status'), 'HIT', 'the old binary serves';
    is $api->calls, 0, 'with the sessions that it had';

    kill USR2 => $old;
    $new = master($file, $old);
    has_workers($new, 2);
    kill QUIT => $old;
    gone($old);
    amid();
    is $t->request(@$_)->status, 200, 'F22: upgraded'
        for \@client, \@user;
    is_deeply $api->counts, {$LOGIN => 1, $VALIDATION => 1},
        'after one login again';

    is_deeply [keys %{$end->()}], [200],
        'F22: no request has failed meanwhile';

    kill QUIT => $new;
    ok gone($new), 'the end';
}

$t->done;
