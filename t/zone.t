# A zone that is small: full, flooded, shared by applications, of the smallest
# and of odd sizes (F18, F34, T16).

use strict;
use warnings;
use lib 't/lib';

use Gateway;
use Test::More;

my $t = Gateway->new;

my @many = 100 .. 131;
my @logins = map { "gateway$_" } 1 .. 40;
my $api = $t->api(applications => ['93:authkey93:Canary-Secret-93'], users => [
    ['gateway', 'Canary-Gateway-Pw', 1],
    ['bob', 'Canary-Bob-Pw', 5],
    map { [$logins[$_], 'Canary-Gateway-Pw', 200 + $_] } 0 .. $#logins,
], args => [
    map { ('--application', "$_:key$_:Canary-Secret-$_",
        '--user', "user$_:Canary-Pw-$_:1$_",
        '--user', "second$_:Canary-Pw-$_:2$_") } @many]);
my $backend = $t->backend;

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';
my $FOREIGN = '{"errors":{"base":["Session belongs to another application"]}}';

sub application {
    my ($name, $size, @more) = @_;

    return join "\n", "quickblox_application $name {", map({ "    $_;" }
        'api %%API%%', "zone quickblox $size", 'timeout 30s',
        'lock_timeout 30s', 'cache_invalid 1h', @more), "}\n";
}

sub chat {
    return application('chat', $_[0], 'application_id 92',
        'auth_key wJHd4cQSxpQGWx5', 'auth_secret jyqGNhbGxkvBTgd',
        'login gateway', 'password Canary-Gateway-Pw');
}

sub other {
    return application('other', $_[0], 'application_id 93',
        'auth_key authkey93', 'auth_secret Canary-Secret-93');
}

# /NAME/ takes a client's session, /NAME/user/ and so on the gateway's own.
sub server {
    my @names = @_;

    my $locations = join '', map {
        my $name = $_;
        map { <<"END" } 'client', $name eq 'other' ? () : 'user', 'application'
    location /$name/$_/ {
        quickblox $name;
        quickblox_session $_;
        proxy_pass %%BACKEND%%;
    }
END
    } @names;

    return <<"END";
add_header X-Status \$quickblox_status always;

server {
    listen 127.0.0.1:%%PORT_0%%;
$locations
}
END
}

sub statuses {
    my %count;
    $count{join ' ', $_->status, $_->header('X-Status') // '-'}++ for @_;

    return join ', ', map { "$count{$_} x $_" } sort keys %count;
}

# One request for each token, on a kept connection.
sub each_of {
    my ($path, @tokens) = @_;
    my $client = $t->client;

    return map {
        my $res = $client->get($path, token => $_);
        $client = $t->client if ($res->header('Connection') // '') eq 'close';
        $res;
    } @tokens;
}

sub sessions { return map { $api->session(user_id => 5) } 1 .. $_[0] }

sub is_silent {
    my ($nginx, $name) = @_;

    # Not of what nginx warns at its start, before there is a connection.
    unlike $nginx->error_log,
        qr/\[(?:error|crit|alert|emerg)\]|\[warn\] \S+ \*/, $name;
    return;
}


# F18: more sessions than there is room for

{
    my $nginx = $t->nginx(chat('32k') . server('chat'));
    my $own = '/chat/user/';
    my @tokens = sessions(1000);

    is $t->get($own)->status, 200, "F18: the gateway's own session";
    $api->reset_calls;

    my @twice = each_of('/chat/client/', map { ($_, $_) } @tokens);
    is statuses(@twice[map { $_ * 2 } 0 .. 999]), '1000 x 200 MISS',
        'F18: a thousand sessions in a zone of 32k';
    is statuses(@twice[map { $_ * 2 + 1 } 0 .. 999]), '1000 x 200 HIT',
        'each is remembered for its next request';
    is $api->calls($VALIDATION), 1000, 'with one call each';
    is statuses($t->get($own)), '1 x 200 HIT',
        'F18: the own session is never pushed out';

    my ($old) = @tokens;
    $api->reset_calls;
    my @again = each_of('/chat/client/', @tokens);
    my $asked = grep { $_->header('X-Status') eq 'MISS' } @again;

    is scalar(grep { $_->status == 200 } @again), 1000,
        'F18: those that were pushed out are served as well';
    cmp_ok $asked, '>', 900, 'most had been';
    is $api->calls, $asked, 'and need one call each';
    is_silent($nginx, 'F18: there is nothing in the log');

    # Nothing is let through either.
    $api->expire($old);
    $backend->reset;
    my @dead = map { $t->get('/chat/client/', token => $_) }
        map { "no-session-$_" } 1 .. 50;
    is statuses(@dead), '50 x 401 REJECTED', 'F18: no session in a full zone';
    is $backend->hits, 0, 'reaches the backend';

    $nginx->stop;
}

{
    # Of what is under way a set takes few: the rest is asked for all the same.
    my $nginx = $t->nginx(chat('32k') . server('chat'), workers => 2);
    my @tokens = sessions(300);

    $api->reset_calls;
    $backend->reset;
    $api->fail(endpoint => $VALIDATION, hold => 1);

    my @clients = map { $t->start(path => '/chat/client/', token => $_) }
        @tokens;
    $api->wait_held(300);
    is $backend->hits, 0, 'F18: 300 look-ups are under way';

    $api->heal;
    $api->release;
    is statuses(map { $_->finish } @clients), '300 x 200 MISS',
        'F18: all are served';
    is $api->calls, 300, 'with a call each';
    is scalar(grep { $_->status == 200 }
        each_of('/chat/client/', @tokens)), 300, 'and once more';
    is_silent($nginx, 'F18: there is nothing in the log');

    $nginx->stop;
}


# T16: tokens that are none

{
    my $nginx = $t->nginx(chat('64k') . server('chat'));
    my @tokens = sessions(150);

    each_of('/chat/client/', @tokens);
    $t->get("/chat/$_/") for qw(user application);

    my @flood = each_of('/chat/client/', map { "no-session-$_" } 1 .. 1500);
    is statuses(@flood), '1500 x 401 REJECTED', 'T16: a flood of tokens';
    is $flood[-1]->body, $EXPIRED, 'is refused';

    $api->reset_calls;
    is statuses(each_of('/chat/client/', @tokens)), '150 x 200 HIT',
        'T16: it pushes out no session';
    is statuses(map { $t->get("/chat/$_/") } qw(user application)),
        '2 x 200 HIT', 'nor the own ones';
    is statuses($t->get('/chat/client/', token => 'no-session-1500')),
        '1 x 401 REJECTED', 'while the last of them is remembered';
    is $api->calls, 0, 'all without a call';
    is_silent($nginx, 'T16: there is nothing in the log');

    $nginx->stop;
}


{
    # A zone that is full, and what is left of it: nobody calls an API that
    # says so, so that what is known can be counted without changing it.
    my @tokens = sessions(200);
    my @dead = map { "no-session-$_" } 1 .. 300;

    my $known = sub {
        my @flood = @_;
        my $nginx = $t->nginx(chat('32k') . server('chat'));

        each_of('/chat/client/', @tokens);
        is statuses(each_of('/chat/client/', @flood)), '300 x 401 REJECTED',
            'T16: a flood in a full zone is refused' if @flood;

        $api->fail(endpoint => $VALIDATION, status => 503,
            headers => [['Retry-After', 600]]);
        $t->get('/chat/client/', token => 'no-session');
        my $count = grep { $_->status == 200 }
            each_of('/chat/client/', @tokens);
        $api->heal;
        $nginx->stop;

        return $count;
    };

    my $full = $known->();
    cmp_ok $full, '>', 30, 'T16: so many sessions are known';
    is $known->(@dead), $full, 'T16: and all of them after the flood';
}

{
    my $nginx = $t->nginx(chat('32k') . server('chat'));
    my @tokens = sessions(20);

    $api->fail(endpoint => $VALIDATION, hold => 1);
    my @flood = map { $t->start(path => '/chat/client/',
        token => "no-session-$_") } 1 .. 200;
    $api->wait_held(200);
    $api->heal;

    is statuses(each_of('/chat/client/', @tokens)), '20 x 200 MISS',
        'T16: sessions are served while a flood is under way';
    $api->reset_calls;
    is statuses(each_of('/chat/client/', @tokens)), '20 x 200 HIT',
        'and remembered';
    is $api->calls, 0, 'without a call';

    $api->release;
    is statuses(map { $_->finish } @flood), '200 x 401 REJECTED',
        'T16: the flood is refused';

    is statuses(each_of('/chat/client/', @tokens)), '20 x 200 HIT',
        'and leaves the sessions where they are';

    $nginx->stop;
}


# F34: two applications in one zone

{
    my $nginx = $t->nginx(chat('32k') . other('32k')
        . server('chat', 'other'));
    my $ours = $api->session(user_id => 5);
    my $theirs = $api->session(application_id => 93, user_id => 7);

    my $shown = sub {
        my ($name, $token) = @_;
        my $res = $t->get("/$name/client/", token => $token);
        return join ' ', $res->status, $res->header('X-Status'),
            $res->status == 200 ? () : $res->body;
    };

    for my $times ('MISS', 'HIT') {
        is $shown->('other', $ours), "403 REJECTED $FOREIGN",
            'F34: a session of the one in the other, first';
        is $shown->('chat', $ours), "200 $times", 'then in its own';
        is $shown->('other', $theirs), "200 $times", 'the other way round';
        is $shown->('chat', $theirs), "403 REJECTED $FOREIGN", 'as well';
    }

    is $t->get("/$_/application/")->status, 200, "F34: a session of $_"
        for 'chat', 'other';
    isnt $backend->last_request('/chat/application/')->header('QB-Token'),
        $backend->last_request('/other/application/')->header('QB-Token'),
        'are two';

    $nginx->stop;
}

{
    my $nginx = $t->nginx(chat('32k') . other('32k')
        . server('chat', 'other'));

    $api->fail(endpoint => $LOGIN, match => 'application_id=93',
        status => 500);
    is $t->get('/other/application/')->status, 503,
        'F34: the API fails for one application';

    $api->reset_calls;
    is $t->get('/other/client/', token => $api->session(application_id => 93,
        user_id => 7))->status, 503, 'for which nobody calls now';
    is $api->calls, 0, 'indeed';
    is $t->get("/chat/$_/", token => $api->session(user_id => 5))->status, 200,
        "but for the other one, $_" for qw(client user application);

    $api->heal;
    $nginx->stop;
}

{
    # As many as there is a place for, with two sessions each.
    my $many = sub {
        my ($prefix, $login, @numbers) = @_;
        return join('', map { application("$prefix$_", '1m',
            "application_id $_", "auth_key key$_",
            "auth_secret Canary-Secret-$_", "login $login$_",
            "password Canary-Pw-$_") } @numbers)
            . server(map { "$prefix$_" } @numbers);
    };
    my $all = sub {
        my ($prefix, $source) = @_;
        return statuses(map { $t->get("/$prefix$_/$source/") } @many);
    };

    my ($ok, $said) = $t->test_config($many->('app', 'user', @many, 132));
    ok !$ok, 'F34: a zone of 1m is too small for 33 applications';
    like $said, qr/has no place for application "app132".*it holds 32/,
        'which is said';

    my $nginx = $t->nginx($many->('app', 'user', @many));

    for my $source (qw(user application)) {
        is $all->('app', $source), '32 x 200 MISS',
            "F34: 32 applications in a zone of 1m, $source";
    }

    $api->reset_calls;
    is $all->('app', $_), '32 x 200 HIT', "all sessions are kept, $_"
        for qw(user application);
    is $api->calls, 0, 'without a call';

    # The old configuration's are in the zone yet.
    ok $nginx->reload($many->('new', 'second', @many)),
        'F34: all have other names and credentials';
    is $all->('new', 'user'), '32 x 200 MISS', 'and sessions';
    $api->reset_calls;
    is $all->('new', $_), '32 x 200 HIT', "which are kept as well, $_"
        for qw(user application);
    is $api->calls, 0, 'without a call';

    $nginx->stop;
}


# More logins, one after the other, than there is room for

{
    my $config = sub {
        return chat('32k') =~ s/login gateway/login $_[0]/r . server('chat');
    };
    my $user = sub { return statuses(map { $t->get('/chat/user/') } 1, 2) };
    my $nginx = $t->nginx($config->('gateway'));

    $t->get("/chat/$_/") for qw(user application);

    $api->reset_calls;
    my (%user, %application, $reloads);

    for my $login (@logins) {
        $reloads += $nginx->reload($config->($login));
        $user{$user->()}++;
        $application{$t->get('/chat/application/')->header('X-Status')}++;
    }

    is $reloads, 40, 'the login is changed forty times';
    is_deeply \%user, {'1 x 200 HIT, 1 x 200 MISS' => 40},
        'each one is remembered';
    is $api->calls($LOGIN), 40, 'and needs one call';
    is_deeply \%application, {HIT => 40},
        'while a session in use is never pushed out';

    $api->reset_calls;
    is statuses(map { $t->get('/chat/user/') } 1 .. 10), '10 x 200 HIT',
        'nor is the last one';
    is $api->calls, 0, 'without a call';
    is_silent($nginx, 'there is nothing in the log');

    $nginx->stop;
}


# Sizes

for my $size (qw(32k 32769 36863 40000 65537 100k 1000001)) {
    my $nginx = $t->nginx(chat($size) . server('chat'));
    my @tokens = sessions(30);

    is statuses(each_of('/chat/client/', @tokens)), '30 x 200 MISS',
        "a zone of $size: sessions";
    is statuses(each_of('/chat/client/', @tokens)), '30 x 200 HIT',
        'are remembered';
    is statuses(map { $t->get('/chat/user/') } 1, 2),
        '1 x 200 HIT, 1 x 200 MISS', "and the gateway's own";

    $nginx->stop;
}

$t->done;
