# One pair of ovn-nbctl processes a reservation: read exclude_ips of switch $1, write it with one address more.
# The other arguments are the addresses; begin and end of each reservation go out. $OVN_NB_DB says where.
set -u
switch=$1
for address in "${@:2}"; do
    begun=$EPOCHREALTIME
    text=$(ovn-nbctl --if-exists get logical_switch "$switch" other_config:exclude_ips) || exit
    text=${text//\"/}
    ovn-nbctl set logical_switch "$switch" other_config:exclude_ips="\"${text:+$text }$address\"" || exit
    echo "$begun $EPOCHREALTIME"
done
