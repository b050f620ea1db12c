# quickblox_on_expired: its location is asked once for each session that has
# expired, whatever the source and however it was found out, by one of all
# requests and workers (T47); what it is told; where the directive applies.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use Test::More;

my $GET = 'GET /session.json';

my $t = Gateway->new;
my $backend = $t->backend;
my $told = $t->backend;
my $side = $t->backend;

my @users = map { ["canary$_", "Canary-Pw-$_", $_] } 100 .. 130;

# Sessions of "brief" are renewed as soon as they are used.
my %api = (
    chat => $t->api(users => [['gateway', 'Canary-Gateway-Pw', 1], @users]),
    brief => $t->api(users => [['gateway', 'Canary-Gateway-Pw', 1], @users],
        lifetime => 600),
);

$backend->check($api{chat});
$t->write('key', '0123456789abcdef' x 4 . "\n");
chmod 0600, $t->dir . '/key';

my %source = (
    client => 'client',
    cookie => 'cookie',
    basic => 'basic',
    user => 'user',
    user_token => 'user_token',
    application => 'application',
);

sub application ($name, $more = '') {
    return <<"END";
quickblox_application $name {
    api @{[$api{$name =~ s/_.*//r}->url]};
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    cookie_key %%DIR%%/key;
    cookie qb Path=/;
    zone $name 128k;
    $more
}
END
}

# The same locations for each application.
sub locations ($name) {
    return join '', map { <<"END" } sort keys %source;
location /$name/$_/ {
    quickblox $name;
    quickblox_session $source{$_};
    proxy_pass %%BACKEND%%;
}
END
}

my $seen = join ' ', map { "\$quickblox_$_" }
    qw(session_source user_id session_type application_id);
my $empty = join '', map { "\$quickblox_$_" } qw(token status error replayed);

my $nginx = $t->nginx(application('chat', 'cache_valid 1h;')
    . application('chat_short', 'cache_valid 1s;')
    . application('brief', 'refresh_before 20m;') . <<"END", workers => 2);
add_header X-Pid \$pid always;
add_header X-Status \$quickblox_status always;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport;

    quickblox_user \$arg_user;
    quickblox_require any;
    quickblox_on_expired /told?from=here&token=\$quickblox_token;

    @{[map { locations($_) } qw(chat chat_short brief)]}
    location = /login { quickblox chat; quickblox_login; }
    location = /me { quickblox chat; quickblox_check; }
    location = /short/me { quickblox chat_short; quickblox_check; }

    location = /told {
        internal;
        proxy_set_header X-Told "$seen";
        proxy_set_header X-Expires \$quickblox_expires;
        proxy_set_header X-Empty "$empty";
        proxy_pass @{[$told->url]};
    }

    quickblox chat;

    location /off/ {
        quickblox_on_expired off;
        proxy_pass %%BACKEND%%;
        location /off/on/ {
            quickblox_on_expired /other;
            proxy_pass %%BACKEND%%;
        }
        location /off/inherited/ {
            proxy_pass %%BACKEND%%;
        }
    }
    location /if/ {
        if (\$arg_a) {
            proxy_pass %%BACKEND%%;
        }
        proxy_pass %%BACKEND%%;
    }
    location /limit/ {
        quickblox off;
        limit_except GET {
            quickblox chat;
            quickblox_on_expired /other;
            proxy_pass %%BACKEND%%;
        }
        proxy_pass %%BACKEND%%;
    }
    location /any_text/ {
        quickblox_expired 403;
        proxy_pass %%BACKEND%%;
    }
    location = /other {
        internal;
        proxy_set_header X-Told "other \$quickblox_user_id";
        proxy_pass @{[$told->url]};
    }
    location = /side {
        internal;
        quickblox off;
        proxy_pass @{[$side->url]};
    }
    location /side/ {
        quickblox_session user;
        mirror /side;
        auth_request /side;
        proxy_pass %%BACKEND%%;
    }
    location /twice/ {
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /replay_off/ {
        quickblox_session user;
        quickblox_replay off;
        proxy_pass %%BACKEND%%;
    }
}
END

my $user = 100;
my @expected;

# A request under a source: its headers, its query, and the token it has.
sub person ($name, $source, $api = $api{chat}) {
    my $id = $user++;
    my %person = (id => $id, query => '', headers => []);

    if ($source eq 'client') {
        $person{token} = $api->session(user_id => $id);
        $person{headers} = [['QB-Token', $person{token}]];

    } elsif ($source eq 'cookie') {
        my $res = $t->post('/login', '', json => {login => "canary$id",
            password => "Canary-Pw-$id"});
        my ($cookie) = ($res->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/;
        $person{headers} = [['Cookie', $cookie // '']];

    } elsif ($source eq 'basic') {
        $person{headers} = [['Authorization', 'Basic '
            . encode_base64("canary$id:Canary-Pw-$id", '')]];

    } elsif ($source eq 'user_token') {
        $person{query} = "?user=$id";

    } else {
        $person{id} = $source eq 'user' ? 1 : '';
    }

    $person{get} = sub (%opt) {
        return $t->request(method => 'GET', headers => $person{headers},
            path => "/$name/$source/x$person{query}", %opt);
    };

    return \%person;
}

# Ends the session that this user has at the API.
sub end ($api, $person) {
    my ($session) = grep { ($_->{user_id} || '') eq $person->{id} }
        reverse $api->sessions;

    return $api->expire($session->{token});
}

# What has been told, of all or of one user.
sub told ($id = undef) {
    my @told = map { $_->header('X-Told') } $told->requests;

    return @told if !defined $id;
    return grep { (split / /)[1] eq $id } @told;
}

sub expect ($source, $id) {
    push @expected, "$source $id " . (length $id ? 'user' : 'application')
        . ' 92';

    $t->wait_for(sub { $told->hits >= @expected }, "call $source $id");

    return is((told())[-1], $expected[-1], "$source: it is told");
}

my $renewing = qr/^(?:HIT|REFRESH)$/;


# An upstream's expired response

for my $source (sort keys %source) {
    my $person = person('chat', $source);
    my $mapped = $source =~ /client|cookie/;

    is $person->{get}->()->status, 200, "$source: a session";
    is end($api{chat}, $person), 1, "$source: has expired";

    is $person->{get}->()->status, $mapped ? 401 : 200,
        "$source: an upstream says so";
    expect($source, $person->{id});

    is $person->{get}->()->status, $mapped ? 401 : 200, "$source: afterwards";
}


# 401 for a validation: what was not examined makes a session suspect, and
# one of a client's is asked for when it is no longer trusted

for my $source (sort keys %source) {
    my $person = person('chat', $source);

    is $person->{get}->()->status, 200, "$source: a session to validate";
    is end($api{chat}, $person), 1, "$source: has expired";
    is $person->{get}->(method => 'HEAD')->status, 401,
        "$source: not examined";
    is told(), @expected, "$source: and not told";

    is $person->{get}->()->status, $source =~ /client|cookie/ ? 401 : 200,
        "$source: the API says so";
    expect($source, $person->{id});
}

{
    my $client = person('chat_short', 'client');
    my $cookie = person('chat', 'cookie');
    my @cookie = (headers => $cookie->{headers});

    is $client->{get}->()->status, 200, 'client: validated';
    end($api{chat}, $client);
    $t->wait_for(sub { $client->{get}->()->header('X-Status') ne 'HIT' },
        'the end of cache_valid');
    expect('client', $client->{id});

    is $t->get('/short/me', @cookie)->status, 200, 'cookie: a check';
    end($api{chat}, $cookie);
    $t->wait_for(sub { $t->get('/short/me', @cookie)->status == 401 },
        'the end of cache_valid');
    expect('cookie', $cookie->{id});
}

# One whose end the gateway has computed is told of all the same.
{
    my $id = $user++;
    $api{chat}->set(lifetime => 2);
    my $token = $api{chat}->session(user_id => $id);
    my $get = sub { $t->get('/chat/client/x', token => $token) };

    is $get->()->status, 200, 'client: a short session';
    $t->wait_for(sub { !grep { $_->{token} eq $token } $api{chat}->sessions },
        'its end');
    is $get->()->status, 401, 'client: has ended';
    $api{chat}->set(lifetime => 7200);
    expect('client', $id);
}


# 401 for a renewal

for my $source (qw(application user user_token)) {
    my $person = person('brief', $source, $api{brief});
    my $api = $api{brief};

    $backend->check(undef);
    is $person->{get}->()->header('X-Status'), 'MISS', "$source: made";
    $api->reset_calls;
    end($api, $person);

    like $person->{get}->()->header('X-Status'), $renewing,
        "$source: is being renewed";
    $api->wait_calls($GET);
    expect($source, $person->{id});
    $backend->check($api{chat});
}

# The renewal and an upstream find out the same.
{
    my $person = person('brief', 'user_token', $api{brief});
    my $api = $api{brief};

    $backend->check(undef);
    is $person->{get}->()->header('X-Status'), 'MISS', 'both: made';
    end($api, $person);
    $api->fail(endpoint => $GET, hold => 1);
    like $person->{get}->()->header('X-Status'), $renewing, 'both: renewed';
    $api->wait_held(1);

    $backend->answer('/brief/user_token/x', status => 401, times => 1,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    is $person->{get}->()->status, 200, 'both: an upstream says so';
    expect('user_token', $person->{id});

    $api->reset_calls;
    $api->heal;
    $api->release;
    $backend->heal;
    is $person->{get}->()->status, 200, 'both: the API says so, too';
    is scalar(told($person->{id})), 1, 'both: told once';
    $backend->check($api{chat});
}

# The other way around: the API first, while an answer is on its way.
{
    my $person = person('brief', 'user_token', $api{brief});
    my $api = $api{brief};

    $backend->check(undef);
    is $person->{get}->()->header('X-Status'), 'MISS', 'late: made';

    $backend->answer('/brief/user_token/x', status => 401, hold => 1,
        times => 1,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    end($api, $person);
    $api->fail(endpoint => 'POST /users/{id}/tokens', hold => 1);

    my $late = $t->start(path => "/brief/user_token/x$person->{query}");
    $backend->wait_held(1);
    $api->wait_held(1);
    expect('user_token', $person->{id});

    $backend->release;
    $api->heal;
    $api->release;
    is $late->finish->status, 200, 'late: replayed';
    is scalar(told($person->{id})), 1, 'late: told once';
    $backend->heal;
    $backend->check($api{chat});
}

# An end that was none: no new session could be made, and the API says then
# that the old one is alive.  Its real end is told of.
{
    my $person = person('chat', 'user_token');
    my $get = $person->{get};
    my $suspect = sub {
        $backend->answer('/chat/user_token/x', status => 401, times => 1);
        $get->(method => 'HEAD');
        $backend->heal;
    };

    is $get->()->status, 200, 'alive: a session';
    $suspect->();
    $api{chat}->fail(endpoint => $GET, status => 401, times => 1);
    $api{chat}->fail(endpoint => 'POST /users/{id}/tokens', status => 500);
    is $get->()->status, 503, 'alive: the API errs';
    expect('user_token', $person->{id});

    $api{chat}->heal;
    $t->wait_for(sub { $get->()->status == 200 }, 'end of the back-off');

    # The API has made another one, and nobody knows of it.
    my $used = $backend->last_request('/chat/user_token/x');
    is $api{chat}->expire($used->header('QB-Token')), 1, 'alive: until now';
    is $get->()->status, 200, 'alive: replayed';
    expect('user_token', $person->{id});
    is scalar(told($person->{id})), 2, 'alive: told again';
}


# What is no expiry

{
    my $person = person('chat', 'cookie');
    my $id = $user++;
    my $count = @expected;

    is $t->get('/chat/client/x', token => "unknown-token-$_")->status, 401,
        'a token that never was a session' for 1 .. 3;

    my $token = $api{chat}->session(user_id => $id);
    $api{chat}->expire($token);
    is $t->get('/chat/client/x', token => $token)->status, 401,
        'one that was never seen';

    is $t->get('/chat/basic/x', headers => [['Authorization',
        'Basic ' . encode_base64('canary100:wrong', '')]])->status, 401,
        'a wrong password';

    $token = $api{chat}->session(user_id => $id);
    $api{chat}->fail(endpoint => $GET, status => 401, times => 1,
        body => '{"errors":["Unauthorized"]}');
    is $t->get('/chat/client/x', token => $token)->status, 401,
        'a 401 that does not say so';
    is $t->get('/chat/client/x', token => $token)->status, 200, 'of a session';

    $backend->answer('/chat/client/x', status => 401, times => 1,
        body => 'no');
    is $t->get('/chat/client/x', token => $token)->status, 401,
        'an upstream that says something else';

    # As a marker: what was told before it has come before it.
    end($api{chat}, $person) if $person->{get}->()->status == 200;
    $person->{get}->();
    expect('cookie', $person->{id});
    is $told->hits, $count + 1, 'nothing else was told';
    $backend->heal;
}


# Many requests on one dead session

for my $source (qw(client user_token)) {
    my $person = person('chat', $source);
    my $path = "/chat/$source/many";
    my (%pids, %status);

    is $person->{get}->()->status, 200, "$source: a session of many";
    end($api{chat}, $person);
    $backend->answer($path, hold => 1, times => 20, status => 401,
        body => '{"errors":{"base":["Required session does not exist"]}}');

    my @clients = map { $t->start(path => "$path$person->{query}",
        headers => $person->{headers}) } 1 .. 20;
    $backend->wait_held(20);
    $backend->release;

    for (map { $_->finish } @clients) {
        $status{$_->status}++;
        $pids{$_->header('X-Pid')}++;
    }

    is_deeply \%status, {($source eq 'client' ? 401 : 200) => 20},
        "$source: 20 requests at once";
    is keys %pids, 2, "$source: of two workers";
    expect($source, $person->{id});
    is scalar(told($person->{id})), 1, "$source: are told of once";
    $backend->heal;
}


# T47: a replay repeats nothing

{
    is $t->get('/side/x')->status, 200, 'T47: before';
    is end($api{chat}, {id => 1}), 1, 'T47: expired';
    $backend->reset;
    $side->reset;
    is $t->get('/side/x')->status, 200, 'T47: replayed';
    expect('user', 1);
    is $backend->hits('/side/x'), 2, 'T47: twice at the upstream';
    is $side->hits, 2, 'T47: mirror and auth_request once';
}

# A second expired response in a row is the client's, and no second expiry.
{
    my $before = told(1);

    $backend->answer('/twice/x', status => 401,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    is $t->get('/twice/x')->status, 401, 'T47: the replay is refused, too';
    expect('user', 1);
    is scalar(told(1)), $before + 1, 'T47: told once';
    $backend->heal;
}

{
    my $before = told(1);

    is $t->get('/replay_off/x')->status, 200, 'quickblox_replay off';
    end($api{chat}, {id => 1});
    is $t->get('/replay_off/x')->status, 401, 'passes what says so';
    is $t->get('/replay_off/x')->status, 200, 'and the API says so';
    expect('user', 1);
    is scalar(told(1)), $before + 1, 'told once';
}


# Where it applies

for my $case (
    ['/off/x', 0],
    ['/off/on/x', 'other'],
    ['/off/inherited/x', 0],
    ['/if/x', 'client'],
    ['/if/x?a=1', 'client'],
    ['/limit/x', 'other', method => 'POST', body => ''],
    ['/any_text/x', 'client'],
) {
    my ($path, $who, %opt) = @$case;
    my $id = $user++;
    my $token = $api{chat}->session(user_id => $id);
    my @request = (path => $path, token => $token, %opt);

    is $t->request(@request)->status, 200, "$path: a session";
    $api{chat}->expire($token);
    $backend->answer('/any_text/x', status => 403, body => '?')
        if $path =~ /any_text/;
    is $t->request(@request)->status, 401, "$path: expired";

    if ($who eq 'other') {
        push @expected, "other $id";
        $t->wait_for(sub { told($id) }, 'the other location');

    } elsif ($who) {
        expect($who, $id);
    }

    $backend->heal;
}


# All of it

my @calls = $told->requests;
my ($first) = @calls;

cmp_ok abs($_->header('X-Expires') - time), '<=', 7300,
    $_->header('X-Told') . ': a time'
    for grep { $_->header('X-Told') !~ /^other/ } @calls;

is $first->{method}, 'GET', 'it is a GET';
is $first->{uri}, '/told?from=here&token=$quickblox_token',
    'of the URI as it is written';
is $first->header('X-Empty') // '', '', 'no token, and no other variable';
is_deeply [map { $_->[0] } grep { $_->[0] !~ /^(?:Host|X-|Connection)/ }
    map { @{$_->{headers}} } @calls], [], 'nothing of a client';

$nginx->stop;

my %count;
$count{$_}++ for map { $_->header('X-Told') } $told->requests;
$count{$_}-- for @expected;
is_deeply {map { $_ => $count{$_} } grep { $count{$_} } keys %count}, {},
    'T47: each expiry is told once, and nothing else';

$t->done;
