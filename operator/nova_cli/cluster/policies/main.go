// Command policies enforces NetworkPolicies on a node. The kernel queues the first packet of each connection to it, and
// passes on what it lets through; policies.py says which packets those are.
//
// The decision is kube-network-policies', which kind's nodes have as well. Its own program tells the kernel what to queue by
// nftables, whose queue some kernels lack; that of iptables, which the node needs anyway, is in all of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/api"
	"sigs.k8s.io/kube-network-policies/pkg/network"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	"sigs.k8s.io/kube-network-policies/pkg/podinfo"
)

const (
	headers      = 128 // bytes of a packet that hold its addresses and ports
	queued       = 4096
	writeTimeout = 100 * time.Millisecond
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file that says how to reach the API server")
	node := flag.String("node", "", "name of the node")
	number := flag.Uint("queue", 0, "number of the kernel's queue")
	klog.InitFlags(nil)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *node, uint16(*number)); err != nil {
		fmt.Fprintln(os.Stderr, "policies:", err)
		os.Exit(1)
	}
}

// run opens the queue when it knows the cluster, so whoever sees the queue knows that it is answered.
func run(ctx context.Context, kubeconfig, node string, number uint16) error {
	engine, err := start(ctx, kubeconfig, node)
	if err != nil {
		return err
	}
	queue, err := nfqueue.Open(&nfqueue.Config{
		NfQueue:      number,
		MaxPacketLen: headers,
		MaxQueueLen:  queued,
		Copymode:     nfqueue.NfQnlCopyPacket,
		Flags:        nfqueue.NfQaCfgFlagGSO,
		WriteTimeout: writeTimeout,
	})
	if err != nil {
		return fmt.Errorf("queue %d: %w", number, err)
	}
	defer queue.Close()
	decide := func(packet nfqueue.Attribute) int {
		verdict := nfqueue.NfDrop
		if allowed(ctx, engine, *packet.Payload) {
			verdict = nfqueue.NfAccept
		}
		if err := queue.SetVerdict(*packet.PacketID, verdict); err != nil {
			klog.ErrorS(err, "a packet got no verdict")
		}
		return 0
	}
	failed := func(err error) int {
		if ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			klog.ErrorS(err, "a packet was not read")
		}
		return 0
	}
	if err := queue.RegisterWithErrorFunc(ctx, decide, failed); err != nil {
		return fmt.Errorf("queue %d: %w", number, err)
	}
	klog.InfoS("enforcing", "node", node, "queue", number)
	<-ctx.Done()
	return nil
}

// start begins to watch the cluster and returns when all of it is known.
func start(ctx context.Context, kubeconfig, node string) (*networkpolicy.PolicyEngine, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	watched := informers.NewSharedInformerFactory(client, 0)
	namespaces, pods := watched.Core().V1().Namespaces(), watched.Core().V1().Pods()
	byAddress, err := podinfo.NewInformerResolver(pods.Informer())
	if err != nil {
		return nil, err
	}
	known := podinfo.NewInformerProvider(pods, namespaces, nil, []podinfo.IPResolver{byAddress})
	standard := networkpolicy.NewStandardNetworkPolicy(node, namespaces, pods, watched.Networking().V1().NetworkPolicies())
	watched.Start(ctx.Done())
	for kind, synced := range watched.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("%v were not listed", kind)
		}
	}
	return networkpolicy.NewPolicyEngine(known, []api.PolicyEvaluator{standard}), nil
}

// allowed says whether a packet may pass, and logs those that may not. One that cannot be read may not.
func allowed(ctx context.Context, engine *networkpolicy.PolicyEngine, payload []byte) bool {
	packet, err := network.ParsePacket(payload)
	if err != nil {
		klog.ErrorS(err, "dropped")
		return false
	}
	may, err := engine.EvaluatePacket(ctx, &packet)
	if err != nil || !may {
		klog.InfoS("dropped", "from", packet.SrcIP, "to", packet.DstIP, "port", packet.DstPort, "protocol", packet.Proto, "err", err)
	}
	return err == nil && may
}
