# How long a session lasts: what is believed of its end, the renewal in the
# background before it, and a new session after it (T62, T72).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

my $GET = 'GET /session.json';
my $POST = 'POST /session.json';

my $t = Gateway->new;
my $backend = $t->backend;

my %application = (
    bounds => '',
    created => '',
    default => 'session_lifetime 30m;',
    renewed => 'refresh_before 100s;',
    gone => 'refresh_before 100s;',
    changed => 'refresh_before 100s;',
    down => 'refresh_before 100s;',
    lagging => 'refresh_before 4s;',
    stuck => 'refresh_before 4s;',
    ended => 'refresh_before 1s;',
);

# Mostly an API of its own for each, as calls are counted.
my %api = map { $_ => $t->api }
    grep { !/created|default/ } sort keys %application;
@api{qw(created default)} = ($api{bounds}) x 2;

$t->nginx((join '', map { <<"END" } sort keys %application)
quickblox_application $_ {
    api @{[$api{$_}->url]};
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone $_ 64k;
    $application{$_}
}
END
    . <<'END' . (join '', map { <<"END" } sort keys %application) . '}',
server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_2%% http2;
    add_header X-Status $quickblox_status always;
    add_header X-Expires $quickblox_expires always;
END
location /$_/client/ {
    quickblox $_;
    proxy_pass %%BACKEND%%;
}
location /$_/user/ {
    quickblox $_;
    quickblox_session user;
    proxy_pass %%BACKEND%%;
}
location /$_/application/ {
    quickblox $_;
    quickblox_session application;
    proxy_pass %%BACKEND%%;
}
END
    workers => 2);

sub user ($app, $client = $t) { return $client->get("/$app/user/x") }

sub said ($res) {
    return join ' ', $res->status, $res->header('X-Status') // '';
}

sub token ($res) { return $res->json->{token} }

sub left ($res) { return $res->header('X-Expires') - time }

sub is_left ($res, $expected, $name) {
    return cmp_ok abs(left($res) - $expected), '<', 3, $name;
}

sub utc ($after, $form = '%Y-%m-%d %H:%M:%S UTC') {
    return strftime($form, gmtime time + $after);
}


# The end that an answer tells is believed within bounds

my $zone = '%Y-%m-%d %H:%M:%S +0000';

for my $case (
    ['an hour', [utc(3600)], 3600],
    ['in the other form', [utc(3600, $zone)], 3600],
    ['10 s', [utc(10)], 10],
    ['3 h, but for a little', [utc(3 * 3600 - 20)], 3 * 3600 - 20],
    ['more than 3 h', [utc(3 * 3600 + 20)], 7200],
    ['a year', [utc(365 * 86400)], 7200],
    ['now', [utc(-1)], 7200],
    ['an hour ago', [utc(-3600)], 7200],
    ['1970', ['1970-01-01 00:00:00 UTC'], 7200],
    ['two', [utc(3600), utc(1800)], 7200],
    ['two that agree', [utc(3600), utc(3600)], 7200],
    ['another zone', [utc(3600, '%Y-%m-%d %H:%M:%S +0100')], 7200],
    ['no zone', [utc(3600, '%Y-%m-%d %H:%M:%S')], 7200],
    ['as HTTP has it', [utc(3600, '%a, %d %b %Y %H:%M:%S GMT')], 7200],
    ['as ISO has it', [utc(3600, '%Y-%m-%dT%H:%M:%SZ')], 7200],
    ['something behind', [utc(3600) . ' x'], 7200],
    ['no such date', ['2027-02-30 12:00:00 UTC'], 7200],
    ['nothing', [''], 7200],
    ['none', [undef], 7200],
) {
    my ($name, $dates, $expected) = @$case;
    my $api = $api{bounds};

    $api->fail(endpoint => $GET, headers => [
        map { ['QB-Token-ExpirationDate', $_] } @$dates]);
    my $res = $t->get('/bounds/client/x',
        token => $api->session(user_id => 5));
    is said($res), '200 MISS', "$name: validated";
    is_left $res, $expected, "$name: believed, or not";
    $api->heal;
}

for my $case (['user', 3600, 3600], ['application', 4 * 3600, 7200]) {
    my ($source, $after, $expected) = @$case;

    $api{created}->fail(endpoint => $POST, headers => [
        ['QB-Token-ExpirationDate', utc($after)]]);
    is_left $t->get("/created/$source/x"), $expected,
        "a new session: $after s";
    $api{created}->heal;
}

$api{default}->set(expiration => 'off');
is_left user('default'), 1800, 'session_lifetime, where no answer tells more';
$api{default}->set(expiration => 'before');


# Before the end a session is renewed, which nobody waits for

$_->set(lifetime => 100) for @api{qw(renewed gone changed down)};
$_->set(lifetime => 5) for @api{qw(lagging stuck)};
$_->set(lifetime => 3) for $api{ended};

my (%first, %began);

for my $app (qw(renewed gone changed down lagging stuck ended)) {
    my $res = user($app);
    is said($res), '200 MISS', "$app: a session is made";
    $first{$app} = $res;
    $began{$app} = time;
}

is_left $first{renewed}, 100, 'it lasts for 100 s';
is_left $first{stuck}, 5, 'others for 5 s';

# T72: a client's session that ends soon by what the API says.
my $mine = $api{bounds}->session(user_id => 5);
$api{bounds}->fail(endpoint => $GET, times => 1,
    headers => [['QB-Token-ExpirationDate', utc(3)]]);
is_left $t->get('/bounds/client/x', token => $mine), 3,
    'T72: a client\'s session has 3 s';
my $mine_began = time;

# Any traffic on these two, and what it is told, until they are done.
my %said = map { $_ => [] } qw(lagging stuck);
my $fixed = strftime($zone, gmtime $first{stuck}->header('X-Expires'));

$api{stuck}->fail(endpoint => $GET,
    headers => [['QB-Token-ExpirationDate', $fixed]]);
$_->set(lifetime => 7200) for @api{qw(lagging stuck)};

sub traffic {
    for my $app (keys %said) {
        my $res = user($app);
        push @{$said{$app}}, {said => said($res), token => token($res),
            time => time};
    }

    return;
}

sub wait_for ($what, $condition) {
    return $t->wait_for(sub {
        traffic();
        return $condition->();
    }, $what);
}

# The next request to come in the time before the end starts a renewal.
sub renewal ($app) {
    my $res;

    wait_for("renewal of $app", sub {
        $res = user($app);
        return said($res) ne '200 HIT';
    });

    is said($res), '200 REFRESH', "$app: a renewal begins";
    is token($res), token($first{$app}), "$app: with the old token";

    return;
}

$api{renewed}->fail(endpoint => $GET, hold => 1, times => 1);
$api{renewed}->set(lifetime => 7200, expiration => 'after');

my $client = $t->client;
my $begin = time;

wait_for('call', sub { user('renewed', $client); $api{renewed}->held });

$begin = time;
my @res = map { user('renewed', $client) } 1 .. 5;
cmp_ok time - $begin, '<', 0.5,
    'T62: requests on the connection that began it are not delayed';
is_deeply [map { said($_) } @res], [('200 HIT') x 5], 'T62: but served';

$begin = time;
@res = map { $_->finish } map { $t->start(path => '/renewed/user/x') } 1 .. 50;
push @res, $t->h2('/renewed/user/x', port => $t->port(2));
cmp_ok time - $begin, '<', 1, 'nor are others, while the API takes its time';
is scalar(grep { said($_) eq '200 HIT' } @res), 51, 'they are served';
is scalar(grep { token($_) eq token($first{renewed}) } @res), 51,
    'with the same token';
is_deeply $api{renewed}->counts, {$POST => 1, $GET => 1}, 'one call';

my ($call) = $api{renewed}->requests($GET);
is $call->header('QB-Token'), token($first{renewed}), 'for that session';

$api{renewed}->release;
wait_for('new expiry', sub { left(user('renewed')) > 7000 });
is token(user('renewed')), token($first{renewed}), 'the token stays';
is said(user('renewed')), '200 HIT', 'no more renewals';
is_deeply $api{renewed}->counts, {$POST => 1, $GET => 1}, 'still one call';

# It is gone, or another's by now.
$api{gone}->expire(token($first{gone}));
$api{changed}->fail(endpoint => $GET,
    patch => {session => {user_id => 0}});

for my $app (qw(gone changed)) {
    renewal($app);
    wait_for('other token',
        sub { token(user($app)) ne token($first{$app}) });
    is said(user($app)), '200 HIT', "$app: a new session";
    is_deeply $api{$app}->counts, {$POST => 2, $GET => 1},
        "$app: by two calls";
}

# The API is down.
$api{down}->fail(status => 500);
renewal('down');
wait_for('call', sub { $api{down}->calls($GET) });
is_deeply [map { said($_) . ' ' . token($_) } map { user('down') } 1 .. 5],
    [('200 HIT ' . token($first{down})) x 5], 'down: the session serves on';
is_deeply $api{down}->counts, {$POST => 1, $GET => 1}, 'down: one call';


# A session that has ended

# Not a request meanwhile.
wait_for('end', sub { time > $began{ended} + 3.1 });
$api{ended}->set(lifetime => 7200);
my $res = user('ended');
is said($res), '200 MISS', 'ended: another session is made';
isnt token($res), token($first{ended}), 'ended: with another token';
is_deeply $api{ended}->counts, {$POST => 2}, 'ended: by one call';

wait_for('end', sub { time > $mine_began + 3.1 });
$api{bounds}->reset_calls;
$res = $t->get('/bounds/client/x', token => $mine);
is said($res), '200 MISS', 'T72: a client\'s session lives: asked once more';
cmp_ok left($res), '>', 7000, 'T72: and trusted further';
is_deeply $api{bounds}->counts, {$GET => 1}, 'T72: one call';


# T72: an answer that does not move is asked for once more, then a new session
# is made before the end

wait_for('end', sub { time > $began{stuck} + 5.5 });

for my $app (qw(lagging stuck)) {
    my %count;
    $count{$_->{said}}++ for @{$said{$app}};

    is_deeply [sort keys %count], ['200 HIT', '200 REFRESH'],
        "T72: $app: nobody waits for anything";
    is $api{$app}->calls($GET), 2, "T72: $app: the session is asked for twice";
}

my %token = map { $_->{token} => 1 } @{$said{lagging}};
is_deeply [keys %token], [token($first{lagging})],
    'T72: an answer that lags behind: the token stays';
is $api{lagging}->calls($POST), 1, 'T72: no other session is made';
cmp_ok left(user('lagging')), '>', 7000, 'T72: the second answer has moved';

%token = map { $_->{token} => 1 } @{$said{stuck}};
is keys %token, 2, 'T72: an answer that never moves: a new token';
is $api{stuck}->calls($POST), 2, 'T72: another session is made';
my ($new) = grep { $_->{token} ne token($first{stuck}) } @{$said{stuck}};
cmp_ok $new && $new->{time}, '<', $first{stuck}->header('X-Expires') + 1,
    'T72: before the first has ended';

$t->done;
