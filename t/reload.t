# Reloads and upgrades: nothing is lost that is still right, nothing kept that
# is not (F20, F21, F22).

use strict;
use warnings;
use lib 't/lib';

use Gateway;
use Gateway::Nginx;
use POSIX ();
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
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

my $token = $api->session(user_id => 5);
my @client = (path => '/', token => $token);
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

# Requests, one after the other on connections of their own and on kept ones,
# until the function that this returns is called: it tells how often which
# status came.  A kept connection may be closed while it is idle, as stock
# nginx does at a reload.
sub load {
    my $stop = 0;
    local $SIG{USR1} = sub { $stop = 1 };

    pipe my $read, my $write or die "pipe: $!";
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        my (%seen, %kept);

        until ($stop) {
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
                    if ($res->header('Connection') // '') eq 'close';
            }

            for (map { $_->finish } @clients) {
                $seen{$_->complete ? $_->status : $_->error}++;
            }
        }

        print {$write} map { "$_ $seen{$_}\n" } keys %seen;
        close $write;
        POSIX::_exit(0);
    }

    close $write;

    return sub {
        kill USR1 => $pid;
        my %seen = map { /^(.*) (\d+)$/ } readline $read;
        waitpid $pid, 0;

        return \%seen;
    };
}


# F20: under load

{
    my $nginx = $t->nginx(configuration(), workers => 2);

    is shown(), $COLD, 'F20: a session of each kind';
    $api->reset_calls;

    my $end = load();
    my %pids;

    for my $number (1 .. 6) {
        ok $nginx->reload, "F20: reload $number under load";
        $pids{$_} = 1 for $nginx->workers;
    }

    my $seen = $end->();
    is_deeply [keys %$seen], [200], 'F20: no request has failed';
    cmp_ok $seen->{200}, '>', 20, 'and there were some';
    is keys %pids, 12, 'all by new workers in the end';
    is $api->calls, 0, 'the sessions were kept: no call';

    $nginx->stop;
}

# F20: what is under way

for my $case (
    [$LOGIN, [@user], 'a login'],
    [$VALIDATION, [@client], 'a validation'],
) {
    my ($endpoint, $request, $name) = @$case;
    my $nginx = $t->nginx(configuration(timeout => '30s',
        lock_timeout => '30s'), workers => 1);
    my ($old) = $nginx->workers;

    $api->reset_calls;
    $api->fail(endpoint => $endpoint, hold => 1);

    my $asks = $t->start(@$request);
    $api->wait_held(1);
    my $waits = $t->start(@$request);
    my $leaves = $t->start(@$request);

    ok $nginx->reload(undef, keep => 1), "F20: a reload with $name under way";
    $t->wait_for(sub { !grep { $_ == $old } $nginx->workers },
        'old worker that shuts down');
    is_deeply [$nginx->workers(all => 1)], [sort { $a <=> $b } $old,
        $nginx->workers], 'the old worker stays for it';

    my $new = $t->start(@$request);
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
    $api->expire_all;
    $token = $api->session(user_id => 5);
    @client = (path => '/', token => $token);
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
    ['login', {login => 'bob', password => 'Canary-Bob-Pw'},
        "200 HIT, 200 MISS $LOGIN: 1"],
    ['login by email', {login => undef, email => 'bob@example.com',
        password => 'Canary-Bob-Pw'}, "200 HIT, 200 MISS $LOGIN: 1"],
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
        is shown(), $name eq 'api' ? $KNOWN
            : $KNOWN, 'to what was known before';
    }

    $nginx->stop;
}

SKIP: {
    skip 'a static module cannot be removed', 7 if $ENV{QUICKBLOX_STATIC};

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
    is $t->request(@client)->json->{token}, $token,
        "and with the client's own";

    $nginx->{module} = $with;
    ok $nginx->reload(configuration()), 'it comes back';
    is shown(), $COLD, 'and begins anew';

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
    for my $name (qw(one two three four)) {
        ok $nginx->reload(configuration(name => $name,
            zone => 'quickblox 32k')), "an application is renamed $name";
        is shown(), $KNOWN, 'with the same credentials, the same sessions';
    }

    $nginx->stop;
}


# F22: another binary

{
    # Only an nginx whose parent has changed takes the signal.  Of its
    # environment a new binary has what "env" names: what a sanitizer needs,
    # and the module's own.
    my $nginx = Gateway::Nginx->new(gateway => $t, name => 'upgrade',
        http => configuration(password => 'env:QUICKBLOX_PASSWORD'),
        main => "env LD_PRELOAD;\nenv ASAN_OPTIONS;\nenv UBSAN_OPTIONS;\n",
        env => {QUICKBLOX_PASSWORD => 'Canary-Gateway-Pw'}, workers => 2);
    push @{$t->{nginxes}}, $nginx;
    my $file = $nginx->dir . '/nginx.pid';

    my $pid = fork // die "fork: $!";
    if (!$pid) {
        POSIX::_exit(0) if fork;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $nginx->dir . '/stderr.log';
        open STDERR, '>&', \*STDOUT;
        $nginx->_environment;
        exec $nginx->command('-e', $nginx->dir . '/error.log')
            or POSIX::_exit(127);
    }
    waitpid $pid, 0;

    my $master = sub {
        my ($name) = @_;
        my $pid;
        $t->wait_for(sub {
            ($pid) = Gateway::Nginx::_slurp($name) =~ /^(\d+)\n/;
        }, "master in $name");
        return $pid;
    };
    my $workers = sub {
        my ($master, $count) = @_;
        return $t->wait_for(sub {
            $count == $nginx->workers(all => 1, master => $master)
        }, "$count workers of $master");
    };
    my $gone = sub {
        my ($pid) = @_;
        return $t->wait_for(sub {
            Gateway::Nginx::_slurp("/proc/$pid/stat") !~ /^\d+ \(.*\) [^Z]/s
        }, "end of $pid");
    };

    my $old = $master->($file);
    my $new;

    # Whatever becomes of the test: nobody else would end them.
    my $owner = $$;
    sub Gateway::Test::DESTROY { $_[0]->() }
    my $guard = bless sub {
        kill KILL => map({ ($nginx->workers(all => 1, master => $_), $_) }
            grep { defined } $old, $new) if $$ == $owner;
    }, 'Gateway::Test';

    $workers->($old, 2);
    is shown(), $COLD, 'F22: the old binary';

    my $end = load();
    $api->reset_calls;

    kill USR2 => $old;
    is $master->("$file.oldbin"), $old, 'F22: an upgrade begins';
    $t->wait_for(sub { ($new = $master->($file)) != $old }, 'new binary');
    $workers->($new, 2);
    kill WINCH => $old;
    $workers->($old, 0);
    is $t->request(@user)->status, 200, 'the new binary serves';
    is_deeply $api->counts, {$LOGIN => 1, $VALIDATION => 1},
        'after one login of its own';

    $api->reset_calls;
    kill HUP => $old;
    $workers->($old, 2);
    kill QUIT => $new;
    $gone->($new);
    is $master->($file), $old, 'F22: rolled back';
    is $t->request(@user)->header('X-Status'), 'HIT', 'the old binary serves';
    is $api->calls, 0, 'with the sessions that it had';

    kill USR2 => $old;
    $t->wait_for(sub { ($new = $master->($file)) != $old }, 'new binary');
    $workers->($new, 2);
    kill QUIT => $old;
    $gone->($old);
    is $t->request(@user)->status, 200, 'F22: upgraded';
    is_deeply $api->counts, {$LOGIN => 1, $VALIDATION => 1},
        'after one login again';

    my $seen = $end->();
    is_deeply [keys %$seen], [200], 'F22: no request has failed meanwhile';

    kill QUIT => $new;
    ok $gone->($new), 'the end';
    undef $old;
    undef $new;
}

$t->done;
