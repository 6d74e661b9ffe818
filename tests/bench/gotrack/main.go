// gotrack: the usual gopacket way to follow TCP handshakes and teardowns.
// DecodingLayerParser + a map keyed by (network flow, transport flow), one
// JSON line per event.  A baseline, not a product.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcap"
)

type key struct{ net, tcp gopacket.Flow }

type conn struct {
	start, est    time.Time
	isn, peerISN  uint32
	synack, estab bool
	fin           [2]bool
	finSeq        [2]uint32
	pkts          int
}

func main() {
	file := flag.String("r", "", "pcap file")
	dev := flag.String("i", "", "interface")
	flag.Parse()
	var h *pcap.Handle
	var err error
	if *file != "" {
		h, err = pcap.OpenOffline(*file)
	} else {
		in, e := pcap.NewInactiveHandle(*dev)
		if e != nil {
			panic(e)
		}
		in.SetBufferSize(64 << 20)
		in.SetSnapLen(128)
		in.SetPromisc(true)
		in.SetTimeout(10 * time.Millisecond)
		h, err = in.Activate()
	}
	if err != nil {
		panic(err)
	}
	h.SetBPFFilter("tcp")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	out := bufio.NewWriterSize(os.Stdout, 65536)
	var eth layers.Ethernet
	var ip4 layers.IPv4
	var ip6 layers.IPv6
	var tcp layers.TCP
	var pl gopacket.Payload
	p := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &eth, &ip4, &ip6, &tcp, &pl)
	p.IgnoreUnsupported = true
	dec := []gopacket.LayerType{}
	conns := map[key]*conn{}
	var n, nsyn, nhs, nclose, nrst, nrefused, peak int
loop:
	for {
		select {
		case <-stop:
			break loop
		default:
		}
		data, ci, err := h.ZeroCopyReadPacketData()
		if err == pcap.NextErrorTimeoutExpired {
			continue
		}
		if err != nil {
			break
		}
		n++
		p.DecodeLayers(data, &dec)
		var nf gopacket.Flow
		isTCP := false
		for _, t := range dec {
			switch t {
			case layers.LayerTypeIPv4:
				nf = ip4.NetworkFlow()
			case layers.LayerTypeIPv6:
				nf = ip6.NetworkFlow()
			case layers.LayerTypeTCP:
				isTCP = true
			}
		}
		if !isTCP {
			continue
		}
		k := key{nf, tcp.TransportFlow()}
		dir := 0
		c := conns[k]
		if c == nil {
			r := key{k.net.Reverse(), k.tcp.Reverse()}
			if c = conns[r]; c != nil {
				k, dir = r, 1
			}
		}
		if tcp.SYN && !tcp.ACK {
			if c == nil || c.isn != tcp.Seq {
				nsyn++
				conns[k] = &conn{start: ci.Timestamp, isn: tcp.Seq, pkts: 1}
				if len(conns) > peak {
					peak = len(conns)
				}
			}
			continue
		}
		if c == nil {
			continue
		}
		c.pkts++
		switch {
		case tcp.SYN && tcp.ACK && dir == 1:
			c.synack, c.peerISN = true, tcp.Seq
		case tcp.RST:
			if !c.synack {
				nrefused++
				fmt.Fprintf(out, "{\"event\":\"refused\",\"ts\":%q,\"flow\":%q,\"ports\":%q}\n", ci.Timestamp.Format(time.RFC3339Nano), k.net.String(), k.tcp.String())
			} else {
				nrst++
				fmt.Fprintf(out, "{\"event\":\"reset\",\"ts\":%q,\"flow\":%q,\"ports\":%q,\"pkts\":%d,\"dur\":%f}\n", ci.Timestamp.Format(time.RFC3339Nano), k.net.String(), k.tcp.String(), c.pkts, ci.Timestamp.Sub(c.start).Seconds())
			}
			delete(conns, k)
		default:
			if dir == 0 && c.synack && !c.estab && tcp.ACK && tcp.Ack == c.peerISN+1 {
				c.estab, c.est = true, ci.Timestamp
				nhs++
				fmt.Fprintf(out, "{\"event\":\"handshake\",\"ts\":%q,\"flow\":%q,\"ports\":%q,\"rtt\":%f}\n", ci.Timestamp.Format(time.RFC3339Nano), k.net.String(), k.tcp.String(), ci.Timestamp.Sub(c.start).Seconds())
			}
			if tcp.FIN {
				c.fin[dir], c.finSeq[dir] = true, tcp.Seq+uint32(len(tcp.Payload))
			} else if c.fin[0] && c.fin[1] && tcp.Ack == c.finSeq[1-dir]+1 {
				nclose++
				fmt.Fprintf(out, "{\"event\":\"close\",\"ts\":%q,\"flow\":%q,\"ports\":%q,\"pkts\":%d,\"dur\":%f}\n", ci.Timestamp.Format(time.RFC3339Nano), k.net.String(), k.tcp.String(), c.pkts, ci.Timestamp.Sub(c.start).Seconds())
				delete(conns, k)
			}
		}
	}
	out.Flush()
	fmt.Fprintf(os.Stderr, "packets %d syn %d handshakes %d closed %d reset %d refused %d left %d peak %d\n", n, nsyn, nhs, nclose, nrst, nrefused, len(conns), peak)
	if st, e := h.Stats(); *dev != "" && e == nil {
		fmt.Fprintf(os.Stderr, "received %d dropped %d\n", st.PacketsReceived, st.PacketsDropped)
	}
}
