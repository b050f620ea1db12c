# The wall clock jumps, and comes back (F17): nobody is logged out, and nothing
# is trusted for longer.
#
# libfaketime gives nginx the time of a file, which may change at any moment;
# only the wall clock, not the monotonic one.  The API keeps its own.

use strict;
use warnings;
use lib 't/lib';

use Gateway;
use Mojo::Date ();
use Test::More;

my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
plan skip_all => 'no libfaketime' if !$library;
plan skip_all => 'no libfaketime under a sanitizer or valgrind'
    if $ENV{NGINX_PRELOAD} || $ENV{QUICKBLOX_VALGRIND};

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';

my $HOUR = 3600;
my $YEARS = 10 * 365 * 86400;

sub wall_clock {
    my ($seconds) = @_;

    # In one step: nginx reads it at any moment.
    my $file = $t->write('clock.new', sprintf "%+ds\n", $seconds);
    rename $file, $t->dir . '/clock' or die "rename: $!";

    return;
}

wall_clock(0);

my $http = <<'END';
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
    refresh_before 1s;
    # more
}

add_header X-Status $quickblox_status always;

server {
    listen 127.0.0.1:%%PORT_0%%;
    location / {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
}
END

# nginx keeps only what "env" names of its environment; the library reads some
# of it with each call.
my @variables = qw(FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE
    FAKETIME_DONT_FAKE_MONOTONIC DONT_FAKE_MONOTONIC);

sub started {
    my (@more) = @_;

    return $t->nginx($http =~ s/# more/@more/r,
        main => join('', map { "env $_;\n" } @variables),
        env => {
            LD_PRELOAD => $library,
            FAKETIME_TIMESTAMP_FILE => $t->dir . '/clock',
            map({ $_ => 1 } @variables[1 .. $#variables]),
        });
}

# nginx's own idea of the time, from ours.
sub wait_clock {
    my ($seconds) = @_;

    wall_clock($seconds);
    return $t->wait_for(sub {
        my $date = Mojo::Date->new($t->get('/none')->header('Date'));
        return abs($date->epoch - time - $seconds) < 60;
    }, "clock of $seconds");
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

my $KNOWN = '200 HIT, 200 HIT';
my $COLD = "200 MISS $VALIDATION: 1, 200 MISS $LOGIN: 1";

# A clock that is so wrong that the API refuses the first attempt to log in.
my $CORRECTED = "200 MISS $VALIDATION: 1, 200 MISS $LOGIN: 2";


# The clock moves while sessions are known

{
    my $nginx = started();

    is shown(), $COLD, 'F17: a session of each kind';

    for my $case (
        ['an hour on', $HOUR, $KNOWN],
        ['right again', 0, $KNOWN],
        ['an hour back', -$HOUR, $KNOWN],
        ['right again', 0, $KNOWN],
        # Now all sessions have ended, as far as nginx knows.
        ['three hours on', 3 * $HOUR, $CORRECTED],
        ['right again', 0, $KNOWN],
        ['ten years on', $YEARS, $CORRECTED],
        ['right again', 0, $KNOWN],
        ['ten years back', -$YEARS, $KNOWN],
        ['right again', 0, $KNOWN],
    ) {
        my ($name, $seconds, $shown) = @$case;

        wait_clock($seconds);
        is shown(), $shown, "F17: the clock is $name";
        is shown(), $KNOWN, 'and all is known then' if $shown ne $KNOWN;
    }

    # What was learned of a clock that was wrong is unlearned.
    $backend->answer('/user/', status => 401, times => 1,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    is shown() =~ s/.*, 200 \w+ //r, "$LOGIN: 2",
        'F17: a login after all that';

    $nginx->stop;
}


# The clock is wrong from the beginning

for my $seconds (3 * $HOUR, -3 * $HOUR, $HOUR / 2) {
    wall_clock($seconds);
    my $nginx = started();

    is shown(), $seconds > $HOUR || $seconds < 0 ? $CORRECTED : $COLD,
        "F17: a clock that is wrong by $seconds s";
    is shown(), $KNOWN, 'serves nevertheless';

    $backend->answer('/user/', status => 401, times => 1,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    is shown() =~ s/.*, 200 \w+ //r, "$LOGIN: 1",
        'and the next login is right at once';

    $nginx->stop;
    wall_clock(0);
}


# The clock goes back: nothing lasts for longer

{
    my $nginx = started('cache_valid 1s;', 'cache_invalid 1s;');

    for my $seconds (-$HOUR, $HOUR) {
        wait_clock(0);
        my $unknown = sprintf 'no-session-%d', abs $seconds + 1;
        my $token = $api->session(user_id => 5);

        is $t->get('/', token => $token)->status, 200, 'F17: a session';
        is $t->get('/', token => $unknown)->status, 401, 'and none';

        wall_clock($seconds);
        $api->expire($token);
        $api->session(user_id => 5, token => $unknown);

        $t->wait_for(sub {
            $t->get('/', token => $token)->status == 401
        }, 'end of cache_valid', 4);
        $t->wait_for(sub {
            $t->get('/', token => $unknown)->status == 200
        }, 'end of cache_invalid', 4);
        pass "F17: validations and rejections end, $seconds s";
    }

    # A failure and its back-off.
    wait_clock(0);
    $api->fail(status => 500);
    my $res = $t->get('/', token => $api->session(user_id => 5));
    is $res->status, 503, 'F17: the API fails';
    is $res->header('Retry-After'), 1, 'for a second';

    wall_clock(-$HOUR);
    $api->heal;
    $t->wait_for(sub {
        $t->get('/', token => $api->session(user_id => 5))->status == 200
    }, 'end of the back-off', 4);
    pass 'F17: the back-off ends';

    # A look-up under way, and one that takes too long.
    wait_clock(0);
    $api->reset_calls;
    $api->fail(endpoint => $VALIDATION, hold => 1);
    my @request = (path => '/', token => $api->session(user_id => 5));
    my @clients = ($t->start(@request));
    $api->wait_held(1);

    for my $seconds (-$HOUR, $HOUR) {
        wait_clock($seconds);
        push @clients, $t->start(@request);
    }

    $api->heal;
    $api->release;
    is_deeply [map { $_->finish->status } @clients], [200, 200, 200],
        'F17: a look-up under way';
    is $api->calls, 1, 'is not begun again';

    $nginx->stop;
}

$t->done;
