# cache_stale: while the API is down, a session that was validated before is
# served for longer than cache_valid, and nothing else is.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Gateway::Client qw($PATIENCE);
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $little = 2 * $PATIENCE;
my %stale = (stale => '600s', little => "${little}s", none => 0);
my $blocks = join '', map { <<"END" } sort keys %stale;
quickblox_application $_ {
    api %%API%%;
    application_id 92;
    zone $_ 128k;
    cache_valid 1s;
    cache_stale $stale{$_};
}
END
my $locations = join '', map { <<"END" } sort keys %stale;
    location /$_/ {
        quickblox $_;
        proxy_pass %%BACKEND%%;
    }
END

$t->nginx(<<"END", workers => 2);
$blocks
map \$quickblox_user_id \$is_alice {
    6 1;
}

add_header X-Seen "\$quickblox_status|\$quickblox_user_id" always;

server {
    listen 127.0.0.1:%%PORT_0%%;

$locations
    location /stale/alice/ {
        quickblox stale;
        quickblox_require user \$is_alice;
        proxy_pass %%BACKEND%%;
    }
}
END

my $count = 0;

sub token (%session) {
    return $api->session(user_id => 5, token => 'session-of-bob-' . ++$count,
        %session);
}

# Status, $quickblox_status and user.
sub seen ($path, $token, %opt) {
    my $res = $t->request(path => $path, token => $token, %opt);

    return join ' ', $res->status, $res->header('X-Seen') // '';
}

my %token = map { $_ => token() } sort keys %stale;
my $gone = token();
my $foreign = $api->session(application_id => 93, user_id => 5);

my $before = time;
is seen("/$_/", $token{$_}), '200 MISS|5', "$_: a session"
    for sort keys %token;
is seen('/stale/', $gone), '200 MISS|5', 'one that is to end';
is seen('/stale/', 'never-a-token'), '401 REJECTED|', 'one that never was';
is seen('/stale/', $foreign), '403 REJECTED|', 'one of another application';

my $began = time;
$api->expire($gone);
$api->close_port;

$t->wait_for(sub { seen('/none/', $token{none}) eq '503 ERROR|' },
    'end of the validation', 4);
cmp_ok time - $began, '<', 3 * $PATIENCE,
    'without cache_stale cache_valid is the end';

$t->wait_for(sub { seen('/little/', $token{little}) eq '200 STALE|5' },
    'stale service', 2);
$t->wait_for(sub { seen('/stale/', $token{stale}) eq '200 STALE|5' },
    'stale service', 2);
is_deeply [map { seen('/stale/', $token{stale}) } 1 .. 8],
    [('200 STALE|5') x 8], 'with it, it is served on by all workers';
is seen('/stale/', $gone), '200 STALE|5',
    'so is one of which nobody can know that it has ended';
is seen('/stale/', 'fresh-token-of-nobody'), '503 ERROR|',
    'but none that was never validated';
is seen('/stale/', token()), '503 ERROR|', 'though it be a good one';
isnt +(seen('/stale/', $_) =~ /(\d+)/)[0], 200, 'none that was refused'
    for 'never-a-token', $foreign;
isnt $t->get('/stale/alice/', token => $token{stale})->status, 200,
    'and it is not let in where it has no right to be';

$t->wait_for(sub { seen('/little/', $token{little}) eq '503 ERROR|' },
    'end of cache_stale', 5);
cmp_ok time - $before, '>=', $little - 0.1,
    'cache_stale is not over before its end';
cmp_ok time - $began, '<', 2 * $little, 'nor long after it';
is seen('/stale/', $token{stale}), '200 STALE|5', 'a longer one goes on';

$api->open_port;
$t->wait_for(sub { seen('/stale/', $token{stale}) =~ /^200 (?:MISS|HIT)/ },
    'the API again', 10);
is seen('/stale/', $gone), '401 REJECTED|', 'then the API is asked';

$t->done;
