# Runs one command so that it can never outlive its client. POSIX sh; dash, busybox and toybox are enough.
#
# $1 nonce  $2 seconds  $3 working folder or ""  $4 edgegen's folder on the device or ""  $5 watch|feed  $6 seconds  then the command.
# "watch": standard input is a lifeline. When it ends, because the client closed it, died, or the link broke, the command is killed;
# and so it is when no line comes on it for four times $6 seconds: the link is dead and nobody could tell.
# "feed": standard input is the command's own; the command ends when it does.
# Two marks bound what the command says: "edgegen:NONCE:begin" on both streams and "edgegen:NONCE:exit:CODE" on standard error.
n=$1 t=$2 w=$3 d=$4 m=$5 e=$6 g= c= k=
shift 6
[ -n "$d" ] || d=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/edgegen
start() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
finish() {
  [ -z "$k" ] || kill $k 2>/dev/null
  [ -z "$g" ] || kill -KILL "-$c" 2>/dev/null # what the command left behind
  rm -f "$d/run/$n"
  echo "edgegen:$n:exit:$1" >&2
  exit 0
}
die() {
  trap "" TERM # the end of the command must not end this half-way
  kill -TERM $g$c
  sleep 2
  kill -KILL $g$c
}
echo "edgegen:$n:begin"
echo "edgegen:$n:begin" >&2
if [ -n "$w" ] && ! cd "$w"; then finish 126; fi
if command -v timeout >/dev/null; then
  case $(timeout --help 2>&1) in
  *-k*) set -- timeout -k 2 "$t" "$@" ;;
  *) set -- timeout -t "$t" "$@" ;; # busybox before 1.30
  esac
fi
if command -v setsid >/dev/null; then # a group of its own: killing it reaches the children too
  g=-
  set -- setsid "$@"
fi
exec 3<&0
if [ "$m" = feed ]; then "$@" <&3 3<&- & else "$@" </dev/null 3<&- & fi
c=$!
{ mkdir -p "$d/run" && echo "$c $(start "$c")" >"$d/run/$n"; } 2>/dev/null
if [ "$m" = watch ]; then
  (
    i=0 s=
    trap "i=0" USR1
    trap 'kill "$s"; exit' TERM
    while [ $i -lt 4 ]; do
      i=$((i + 1))
      sleep "$e" &
      s=$!
      wait $s
      kill $s
    done
    die
  ) >/dev/null 2>&1 3<&- &
  b=$!
  (
    while read -r _; do kill -USR1 $b; done <&3 # built in: no child that would outlive this and keep a session open
    die
  ) >/dev/null 2>&1 &
  k="$! $b"
fi
exec 3<&-
wait "$c" 2>/dev/null # without the remark of some shells on how it died
finish $?
