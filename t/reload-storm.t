# HUP every 200 ms under load (F20), from a cold zone on: no request fails and
# the gateway logs in once; nor does the master grow.  A minute of it with
# QUICKBLOX_LONG=1, else five seconds.  Each client closes its connection, as
# stock nginx drops idle ones at a reload.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Gateway::Worker;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'the heap cannot be looked at'
    if !Gateway::Worker::available();

my $DURATION = $ENV{QUICKBLOX_LONG} ? 60 : 5;
my $INTERVAL = 0.2;

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';

my $t = Gateway->new;
my $api = $t->api(tls => 1);
my $backend = $t->backend;

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

my $configuration = <<'END';
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    cookie_key %%DIR%%/key;
    zone quickblox 1m;
    cache_valid 1h;
    timeout 30s;
    lock_timeout 30s;
}

server {
    listen 127.0.0.1:%%PORT_0%% backlog=1024;
    quickblox chat;

    location / {
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
}
END

my $nginx = $t->nginx($configuration, workers => 2,
    env => Gateway::Worker::env());

my @tokens = map { $api->session(user_id => 5) } 1 .. 20;


# Requests until the pipe is closed: how often which status came.
sub load ($stop) {
    my %seen;
    my $number = 0;
    my $end = '';
    vec($end, fileno $stop, 1) = 1;

    until (select my $ready = $end, undef, undef, 0) {
        my @clients = map { $t->start(%$_, timeout => 30) } map {
            ({path => '/user/'},
                {path => '/', token => $tokens[$number++ % @tokens]})
        } 1 .. 4;

        for (map { $_->finish } @clients) {
            $seen{$_->complete ? $_->status : $_->error}++;
        }
    }

    return \%seen;
}

pipe my $read, my $write or die "pipe: $!";
pipe my $stop, my $running or die "pipe: $!";
my @load;
my $owner = $$;

END {
    if ($$ == ($owner // 0)) {
        my $code = $?;
        kill KILL => @load;
        waitpid $_, 0 for @load;
        $? = $code;
    }
}

for (1 .. 2) {
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        close $running;
        my $seen = eval { load($stop) } // {$@ => 1};
        syswrite $write, join '', map { "$_: $seen->{$_}\n" } keys %$seen;
        POSIX::_exit(0);
    }

    push @load, $pid;
}

close $write;


# The storm

sub reloads { return scalar(() = $nginx->error_log =~ /: reconfiguring$/mg) }

# What the master holds when it has no more to do.
sub calm {
    my $master = Gateway::Worker->new($nginx->pid);
    my ($before, $same) = (0, 0);

    $nginx->reload;
    $t->wait_for(sub {
        my $heap = $master->holds->{heap};
        $same = $heap == $before ? $same + 1 : 0;
        $before = $heap;
        return $same > 20 && $nginx->workers(all => 1) == 2;
    }, 'rest of the master', 30);

    return $master->holds;
}

# Two halves, so that what the master holds can be compared.
sub storm ($seconds) {
    my $from = time;
    my $sent = 0;

    while (time < $from + $seconds) {
        $nginx->signal('HUP');
        my $left = $from + ++$sent * $INTERVAL - time;
        sleep $left if $left > 0;
    }

    return $sent;
}

my $sent = storm($DURATION / 2);
my $early = calm();
$sent += storm($DURATION / 2);
my $late = calm();
close $running;

my %seen;
/^(.*): (\d+)$/ and $seen{$1} += $2 while <$read>;
waitpid $_, 0 for splice @load;

my $requests = delete $seen{200} // 0;
my $reloads = reloads();

diag "$sent times HUP, $reloads reloads, $requests requests, ",
    $late->{heap} - $early->{heap}, ' bytes more in the master';

is_deeply \%seen, {}, 'F20: no request has failed';
cmp_ok $reloads, '>', $sent / 4, 'F20: nginx was reloaded again and again';
cmp_ok $requests, '>', $reloads, 'under load';
is_deeply $api->counts, {$LOGIN => 1, $VALIDATION => scalar @tokens},
    'F20: one login, and each session was validated once';
is $late->{$_}, $early->{$_}, "F20: the master does not grow: $_"
    for qw(descriptors heap);


# With certificates OpenSSL keeps a few bytes more, as it does for proxy_ssl in
# stock nginx, but no context, which has thousands.

$configuration =~ s/api .*;/api %%API_TLS%%; ssl_trusted_certificate %%CA%%;/;
ok $nginx->reload($configuration), 'F20: an API with TLS';
$nginx->reload for 1 .. 3;
$early = calm();
$nginx->reload for 1 .. 10;
$late = calm();

diag $late->{heap} - $early->{heap}, ' bytes more with TLS';
is $late->{descriptors}, $early->{descriptors},
    'F20: nor with TLS: descriptors';
cmp_ok $late->{heap} - $early->{heap}, '<', 10 * 500, 'F20: heap';

$t->done;
